SELECT id, fee, PREDICT(spend, *) AS v FROM customers ORDER BY fee DESC, id LIMIT 10
