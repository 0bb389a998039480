"""Training: losses, distillation, the Lightning module, checkpoints between epochs."""
