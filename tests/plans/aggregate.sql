SELECT region, avg(PREDICT_PROBA(churn, *)) AS p, count(*) AS n FROM customers WHERE fee > 30.0 GROUP BY region
