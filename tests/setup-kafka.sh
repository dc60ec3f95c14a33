#!/bin/sh
# Put a real Apache Kafka into a directory: tests/setup-kafka.sh DIRECTORY
# Needs Java 17, Maven and its repository. Whoever puts DIRECTORY first on the PATH tests with it: `make kafka`.
set -eu
version=${KAFKA_VERSION:-4.1.0}

mkdir -p "$1/jars"
directory=$(cd "$1" && pwd)

cat >"$directory/pom.xml" <<END
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>broker</groupId>
  <artifactId>broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <!-- the log, on standard error -->
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
END
mvn --quiet --batch-mode --file "$directory/pom.xml" dependency:copy-dependencies -DoutputDirectory="$directory/jars"

# kafka-broker PROPERTIES: one process that is broker and controller, on storage that is formatted when it is new.
cat >"$directory/kafka-broker" <<'END'
#!/bin/sh
set -eu
jars="$(dirname "$(readlink -f "$0")")/jars/*"
java -cp "$jars" kafka.tools.StorageTool format --ignore-formatted --cluster-id AAAAAAAAAAAAAAAAAAAAAQ --config "$1"
exec java -Xmx512m -cp "$jars" kafka.Kafka "$1"
END
chmod +x "$directory/kafka-broker"
