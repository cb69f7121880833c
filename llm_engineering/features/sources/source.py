"""What a source is lives in llm_engineering/features/source.py, so that what sources share may know it too."""

from llm_engineering.features.source import Page, Skipped, Source, Target

__all__ = ["Page", "Skipped", "Source", "Target"]
