"""What the canary controller is worth: false alarms, detection, and the comparison with simpler rules."""
