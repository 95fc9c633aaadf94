SELECT o.order_id, PREDICT(spend, c.*) AS v
FROM orders o JOIN customers c ON o.id = c.id
WHERE o.amount > 900 AND c.region = 'north'
