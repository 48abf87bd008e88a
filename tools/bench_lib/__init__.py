"""What tools/bench is made of. Measured figures and how to repeat them: docs/performance.md."""
