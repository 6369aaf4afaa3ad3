"""Metadata in Postgres: samples, training sets, training signals and ledgers of pipelines.

Control statements go through psycopg, bulk data through the C core on libpq (`modyn.postgres`).
"""
