-- What the files take from DuckDB's functions, for a database of PostgreSQL.
CREATE FUNCTION range(bigint, OUT range bigint) RETURNS SETOF bigint LANGUAGE sql IMMUTABLE AS 'SELECT generate_series(0, $1 - 1)';
CREATE FUNCTION round(double precision, integer) RETURNS double precision LANGUAGE sql IMMUTABLE AS 'SELECT round($1::numeric, $2)::double precision';
CREATE FUNCTION len(anyarray) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT cardinality($1)';
CREATE FUNCTION list_sum(double precision[]) RETURNS double precision LANGUAGE sql IMMUTABLE AS 'SELECT sum(x) FROM unnest($1) x';
CREATE FUNCTION json_extract_path_text(varchar, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1::json ->> $2';
CREATE FUNCTION json_extract_path_text(varchar, text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1::json -> $2 ->> $3';
CREATE FUNCTION string_split(text, text) RETURNS text[] LANGUAGE sql IMMUTABLE AS 'SELECT string_to_array($1, $2)';
CREATE FUNCTION isnan(double precision) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = double precision ''NaN''';
CREATE FUNCTION month(date) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT extract(month FROM $1)::bigint';
CREATE FUNCTION cardinality(jsonb) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT jsonb_array_length($1)';
