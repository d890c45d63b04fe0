"""What devices said, kept for months: Parquet parts beside the journal, compacted from it and asked by device and time.

Nothing here is imported where alarms are made: the node starts the compaction (`edge.history.process`) and reads
names of files (`edge.history.catalogue`); pyarrow lives in the compaction, in queries and in replay alone.
"""
