"""What is told: progress, output and exit codes, documents, figures and pictures."""
