SELECT id, PREDICT(churn, *) AS label, PREDICT_PROBA(churn, *) AS p
FROM customers
WHERE PREDICT_PROBA(churn, *) > 0.9
