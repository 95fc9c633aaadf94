CREATE MODEL chosen OPTIONS (
  model_type = 'dnn_classifier', input_label_cols = ['churned'], row_key = ['id'], seed = 7,
  hidden_units = [64, 32], optimizer = 'adamw', batch_size = 256, max_epochs = 5, early_stop = FALSE,
  data_split_method = 'k_fold', num_folds = 3, learn_rate = HPARAM_CANDIDATES([0.0001, 0.001, 0.01, 0.03])
) AS SELECT * EXCLUDE (plan, spent) FROM customers
