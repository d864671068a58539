"""Training: recipes, schedules, augmentation, the tasks and the one loop."""
