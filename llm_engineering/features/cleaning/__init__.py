"""How each kind of raw body becomes clean text. Start at llm_engineering.features.cleaning.clean."""
