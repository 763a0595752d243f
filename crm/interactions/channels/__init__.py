"""One small adapter for each channel: what a provider sends, checked, and said in our words."""
