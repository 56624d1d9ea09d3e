"""The source database: what the application's Drizzle migrations made, full of rows, among other people's tables.

Built from the files in `sandbox/app/drizzle` alone; Node is not needed.
"""

from sandbox.source.build import NEIGHBOURS, TABLES, SourceFacts, build
from sandbox.source.migrations import Migration, SourceError, read_folder

__all__ = ["NEIGHBOURS", "TABLES", "Migration", "SourceError", "SourceFacts", "build", "read_folder"]
