"""The SQL that reads what a PostgreSQL database holds; its answers are lines for `contents.read`."""

from __future__ import annotations

DIGEST_BOUND = 64 << 20
"""Tables up to this many bytes are compared by their contents, larger ones by their row counts."""
DUMP_WAITS_S = 30

# Whatever the role's own settings say: these decide about how a row reads as text, and how long we may hold a snapshot.
STEADY = f"""\
set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; set extra_float_digits = 3;
set bytea_output = 'hex'; set xmloption = 'content'; set row_security = off; set search_path = '';
set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set lock_timeout = '{DUMP_WAITS_S}s';
"""
BEGIN = STEADY + "begin isolation level repeatable read, read only; select pg_export_snapshot();"

_OURS = "n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'"
_SUM = "coalesce(sum(('x' || substr(md5(cutover_row::text), 1, 15))::bit(60)::bigint), 0)::text"

TABLES = f"""\
select format('select %L, %L, count(*), %s from only %I.%I cutover_row', 'table', n.nspname || '.' || c.relname,
  case when pg_table_size(c.oid) <= {DIGEST_BOUND} then $sum${_SUM}$sum$ else $none$''$none$ end, n.nspname, c.relname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and {_OURS} order by 1
\\gexec
"""
SEQUENCES = """\
select 'sequence', schemaname || '.' || sequencename, last_value from pg_catalog.pg_sequences order by 2;
"""
OBJECTS = f"""\
select 'object', kind, sum(how_many) from (
  select 'indexes' as kind, count(*) as how_many from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where {_OURS}
  union all select 'constraints', count(*) from pg_catalog.pg_constraint c
    join pg_catalog.pg_namespace n on n.oid = c.connamespace where c.contype <> 'n' and {_OURS}
  union all select 'views', count(*) from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('v', 'm') and {_OURS}
  union all select 'functions', count(*) from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace where {_OURS}
  union all select 'triggers', count(*) from pg_catalog.pg_trigger where not tgisinternal
  union all select 'large objects', count(*) from pg_catalog.pg_largeobject_metadata
) as counted group by kind order by kind;
"""


def revision(table: str) -> str:
    """The SQL for what stands in *table*, whichever schema it is in: Alembic's column, or the usual other names."""
    quoted = "'" + table.rsplit(".", 1)[-1].replace("'", "''") + "'"
    return f"""\
select format('select %L, %I::text from %I.%I order by 1', 'head', a.attname, n.nspname, c.relname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join lateral (select attname from pg_catalog.pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped
  order by array_position(array['version_num', 'version', 'name'], attname::text) nulls last, attnum limit 1) a on true
where c.relname = {quoted} and c.relkind = 'r' and {_OURS}
\\gexec
"""


def everything(schema_table: str) -> str:
    """The SQL for all that is compared."""
    return TABLES + SEQUENCES + OBJECTS + revision(schema_table)
