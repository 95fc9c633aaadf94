SELECT c.id, o.amount
FROM customers c LEFT JOIN orders o ON c.id = o.id
WHERE PREDICT_PROBA(churn, c.*) > 0.8
