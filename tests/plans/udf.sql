SET gradbase.representation = 'udf';
SELECT id FROM customers WHERE PREDICT_PROBA(churn, *) > 0.5 AND fee < 20.0
