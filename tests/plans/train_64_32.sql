CREATE MODEL chosen OPTIONS (
  model_type = 'dnn_classifier', input_label_cols = ['churned'], row_key = ['id'], seed = 7,
  hidden_units = [64, 32], optimizer = 'adamw', batch_size = 256, max_epochs = 5, early_stop = FALSE,
  data_split_method = 'random', data_split_eval_fraction = 0.2,
  learn_rate = HPARAM_CANDIDATES([0.0001, 0.0003, 0.001, 0.002, 0.003, 0.005, 0.01, 0.03]),
  l2_reg = HPARAM_CANDIDATES([0, 0.0001, 0.001, 0.01])
) AS SELECT * EXCLUDE (plan, spent) FROM customers
