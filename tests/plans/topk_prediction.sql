SELECT id, PREDICT(spend, *) AS v FROM customers ORDER BY v DESC, id LIMIT 10
