"""Real and synthetic rows to a LoRA adapter."""
