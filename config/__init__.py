"""With what numbers: settings, their defaults and the profiles."""
