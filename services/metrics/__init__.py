"""Scores of predictions, one file a task: arrays in, numbers out. Training chooses by them, evaluation reports them."""
