SELECT id, PREDICT(spend, *) AS v FROM customers LIMIT 100
