"""One model per group: statistics, training and prediction of all groups at once."""
