#!/bin/sh
# Makes the secrets of docker-compose.secured.yml, once: an authority, a certificate and a password for each program, and the
# files that each program reads them from. Runs in a container, as root, in /secrets; a folder of it is mounted into each service.
set -eu
[ ! -e /secrets/made ] || exit 0
umask 077
cd /secrets
programs="administrator worker reader operator scheduler producer filler"
new_key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825"

# Python demands the key usage from 3.13 on.
openssl req -x509 $new_key -subj "/CN=Core Tables" -addext keyUsage=critical,keyCertSign,cRLSign \
  -keyout authority.key -out ca.pem 2> /dev/null

issue() { # folder, subject
  mkdir -p "$1"
  cp ca.pem "$1/ca.pem"
  openssl req -x509 -CA ca.pem -CAkey authority.key $new_key -extensions usr_cert -subj "/CN=$2" \
    -addext "subjectAltName=DNS:$1,DNS:localhost,IP:127.0.0.1" -keyout "$1/tls.key" -out "$1/tls.crt" 2> /dev/null
}

for server in kafka postgres redis; do issue "$server" "$server"; done
for program in $programs; do
  issue "$program" "core_tables_$program"
  openssl rand -hex 24 > "$program/password"
done
openssl rand -hex 24 > postgres/superuser

# Kafka: the certificate is the login. The keystore of Java is key and certificate in one file.
for folder in kafka administrator; do
  cat "$folder/tls.key" "$folder/tls.crt" > "$folder/tls.pem"
  cat > "$folder/client.properties" << END
security.protocol=SSL
ssl.keystore.type=PEM
ssl.keystore.location=/secrets/tls.pem
ssl.truststore.type=PEM
ssl.truststore.location=/secrets/ca.pem
END
done

# Postgres: a password, and a server that is verified.
cat > postgres/pg_hba.conf << END
local all postgres peer
hostssl all all all scram-sha-256
END
mkdir postgres/initdb
{
  cat grants/administrator.psql
  echo "alter role core_tables_administrator password '$(cat administrator/password)';"
} > postgres/initdb/administrator.sql
{
  cat grants/programs.psql
  for program in worker reader operator scheduler; do
    echo "alter role core_tables_$program password '$(cat $program/password)';"
  done
} > administrator/programs.psql

# Redis: everybody may ask whether it answers, and each program has its rights and a password.
{
  echo "user default on nopass resetkeys resetchannels -@all +ping"
  sed 's/^ACL SETUSER/user/' grants/redis.txt | while read -r line; do
    program=${line#user core_tables_}
    echo "$line >$(cat "${program%% *}/password")"
  done
} > redis/users.acl

# What each program reads: as whom it logs in, and where the servers are.
write_settings() { # program, folder, the folder as the program sees it, host and port of Postgres, host:port of Redis
  printf '{"security.protocol": "SSL", "ssl.ca.location": "%s", "ssl.certificate.location": "%s", "ssl.key.location": "%s"}\n' \
    "$3/ca.pem" "$3/tls.crt" "$3/tls.key" > "$2/kafka"
  echo "$4 dbname=core_tables user=core_tables_$1 password=$(cat "$1/password") sslmode=verify-full sslrootcert=$3/ca.pem" \
    > "$2/dsn"
  echo "rediss://core_tables_$1:$(cat "$1/password")@$5/0?ssl_ca_certs=$3/ca.pem" > "$2/redis"
}

for program in $programs; do
  mkdir -p "host/$program"
  cp "$program/ca.pem" "$program/tls.crt" "$program/tls.key" "host/$program"
  write_settings "$program" "$program" /secrets "host=postgres" "redis:6379"
  write_settings "$program" "host/$program" "$HOST_FOLDER/host/$program" "host=localhost port=$POSTGRES_PORT" \
    "localhost:$REDIS_PORT"
done
for program in producer operator; do
  cat > "host/$program.env" << END
export CORE_TABLES_BOOTSTRAP_SERVERS=localhost:$KAFKA_PORT
export CORE_TABLES_KAFKA_FILE=$HOST_FOLDER/host/$program/kafka
export CORE_TABLES_READER_DSN_FILE=$HOST_FOLDER/host/reader/dsn
export CORE_TABLES_OPERATOR_DSN_FILE=$HOST_FOLDER/host/operator/dsn
export CORE_TABLES_SCHEDULER_DSN_FILE=$HOST_FOLDER/host/scheduler/dsn
export CORE_TABLES_REDIS_URL_FILE=$HOST_FOLDER/host/$([ $program = producer ] && echo filler || echo operator)/redis
END
done

# Each container reads its own folder only, and who started them reads `host`.
chown -R 1000 kafka
chown -R 999 postgres redis
chown -R 10001 $programs
chown -R "$(stat -c %u:%g /make-secrets.sh)" host
touch made
