-- Queries of postgres.py and advisory_lock.py for psql. `load_query` reads them by name and fills the {names}.

-- name: size and folder
-- A role that may not read the setting gets no row for it, and no error.
select pg_database_size(current_database()), (select setting from pg_settings where name = 'data_directory');

-- name: create like current
-- Somebody may have made the database read-only before its restore.
set default_transaction_read_only = off;
select format('create database %I template template0 encoding %L lc_collate %L lc_ctype %L connection limit %s%s%s',
  {name}, pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
  case when pg_has_role(datdba, 'MEMBER') then format(' owner %I', pg_get_userbyid(datdba)) end,
  case to_jsonb(d) ->> 'datlocprovider'
    when 'c' then ' locale_provider libc'
    when 'b' then format(' locale_provider builtin builtin_locale %L', to_jsonb(d) ->> 'datlocale')
    when 'i' then format(' locale_provider icu icu_locale %L',
      coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale')) end)
from pg_database d where datname = current_database()
\gexec

-- name: copy settings
set default_transaction_read_only = off;
-- "from current" copies a value without quoting it again. A setting of the role or PGCLIENTENCODING may have replaced the
-- value in this session, so it is set first, except where only the begin of a session can do that.
select format('do %L', format('begin %s alter %s set %s from current; %s end',
  case when g.context is null or g.context not like '%backend' then
    format('perform set_config(%L, %L, true);', one.name, one.value) end,
  case when r.oid is null then format('database %I', {new}) else format('role %I in database %I', rolname, {new}) end,
  one.name,
  case when r.oid is not null then 'exception when insufficient_privilege then null;' end))
from pg_database d join pg_db_role_setting s on s.setdatabase = d.oid
cross join lateral (select split_part(each, '=', 1) as name, substr(each, strpos(each, '=') + 1) as value
  from unnest(s.setconfig) each) one
left join pg_roles r on r.oid = s.setrole left join pg_settings g on g.name = one.name
where d.datname = current_database()
\gexec
select format('revoke all on database %I from public', {new}) from pg_database
where datname = current_database() and datacl is not null
\gexec
select format('grant %s on database %I to %s%s', privilege_type, {new},
  case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
  case when is_grantable then ' with grant option' end)
from pg_database, aclexplode(datacl) where datname = current_database() and grantee <> datdba
\gexec

-- name: begin reading
-- The settings override those of the role: formats decide how a row reads as text, timeouts would end a long dump.
set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; set extra_float_digits = 3;
set bytea_output = 'hex'; set xmloption = 'content'; set row_security = off; set search_path = '';
set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set lock_timeout = '{lock_timeout_s}s';
begin isolation level repeatable read, read only;

-- name: tables
select format('select %L, %L, count(*), %s from only %I.%I cutover_row', 'table', n.nspname || '.' || c.relname,
  case when pg_table_size(c.oid) <= {digest_max_bytes} then
    $sum$coalesce(sum(('x' || substr(md5(cutover_row::text), 1, 15))::bit(60)::bigint), 0)::text$sum$
    else $none$''$none$ end,
  n.nspname, c.relname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and {user_schemas} order by 1
\gexec

-- name: sequences
select 'sequence', schemaname || '.' || sequencename, last_value from pg_catalog.pg_sequences order by 2;

-- name: objects
select 'object', kind, sum(how_many) from (
  select 'indexes' as kind, count(*) as how_many from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where {user_schemas}
  union all select 'constraints', count(*) from pg_catalog.pg_constraint c
    join pg_catalog.pg_namespace n on n.oid = c.connamespace where c.contype <> 'n' and {user_schemas}
  union all select 'views', count(*) from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('v', 'm') and {user_schemas}
  union all select 'functions', count(*) from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace where {user_schemas}
  union all select 'triggers', count(*) from pg_catalog.pg_trigger where not tgisinternal
  union all select 'large objects', count(*) from pg_catalog.pg_largeobject_metadata
) as counted group by kind order by kind;

-- name: revision
-- From the table in any schema, by Alembic's column or another usual name.
select format('select %L, %I::text from %I.%I order by 1', 'head', a.attname, n.nspname, c.relname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join lateral (select attname from pg_catalog.pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped
  order by array_position(array['version_num', 'version', 'name'], attname::text) nulls last, attnum limit 1) a on true
where c.relname = {schema_table} and c.relkind = 'r' and {user_schemas}
\gexec

-- name: advisory lock
-- The timeouts of the role would end the session that holds the lock.
select set_config(name, '0', false) from pg_settings
where name in ('statement_timeout', 'idle_session_timeout', 'transaction_timeout') \g /dev/null
set lock_timeout = {timeout_ms}; select pg_advisory_lock({key});

-- name: lock holder
select format('since %s from %s', date_trunc('second', a.backend_start), coalesce(a.client_addr::text, 'itself'))
from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and l.classid = {high} and l.objid = {low}
and l.database = (select oid from pg_database where datname = current_database()) limit 1;
