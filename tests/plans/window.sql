SELECT id, row_number() OVER (PARTITION BY region ORDER BY PREDICT(spend, *), id) AS place FROM customers
