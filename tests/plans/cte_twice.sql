WITH scored AS (SELECT id, region, PREDICT_PROBA(churn, *) AS p FROM customers)
SELECT a.id, b.p
FROM scored a JOIN scored b ON a.id = b.id + 1
WHERE a.p > b.p
