"""What the model around a trainer is made of: the Lightning module, learning-rate schedules, loggers."""
