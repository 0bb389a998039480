"""Training: losses, distillation, the Lightning module, the state after every epoch."""
