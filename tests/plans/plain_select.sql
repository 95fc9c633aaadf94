SELECT id, PREDICT(churn, *) AS label FROM customers
