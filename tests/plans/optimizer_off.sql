SET gradbase.optimizer = off;
SELECT id, fee
FROM customers
WHERE PREDICT_PROBA(churn, *) > 0.5 AND region = 'south' AND fee < 20.0
