"""Training: recipes, schedules, augmentation, tasks and the loop."""
