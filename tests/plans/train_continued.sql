CREATE OR REPLACE MODEL churn OPTIONS (warm_start = TRUE, max_epochs = 5, learn_rate = 0.001)
AS SELECT * EXCLUDE (plan, spent) FROM customers
