SELECT id, predicted_churned FROM ML.PREDICT(MODEL churn, TABLE customers, STRUCT(0.3 AS threshold)) WHERE region = 'ost'
