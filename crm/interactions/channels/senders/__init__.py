"""One small module for each provider by which messages go out. See `crm.interactions.channels.outgoing`."""
