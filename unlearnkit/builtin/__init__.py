"""What unlearnkit brings itself, registered through the same hooks as any plugin."""
