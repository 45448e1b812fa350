//! Parsing connection strings.

use std::hint::black_box;

use benches::cpu_time::{CpuTime, criterion};
use criterion::Criterion;
use mongo_uri::ConnectionString;

const CASES: [(&str, &str); 3] = [
    ("one host", "mongodb://localhost"),
    (
        "three hosts and a password",
        "mongodb://user:p%40ss@a.example.com:27017,b.example.com:27018,c.example.com:27019/db\
         ?replicaSet=rs0&authSource=admin&tls=true",
    ),
    (
        "many options",
        "mongodb://a,b/?replicaSet=rs0&readPreference=secondaryPreferred&readPreferenceTags=dc:ny\
         &maxStalenessSeconds=120&readConcernLevel=majority&w=majority&journal=true&wTimeoutMS=100\
         &compressors=snappy,zlib,zstd&zlibCompressionLevel=6&connectTimeoutMS=1000\
         &serverSelectionTimeoutMS=2000&heartbeatFrequencyMS=5000&localThresholdMS=20\
         &maxPoolSize=20&minPoolSize=2&maxIdleTimeMS=60000&appName=bench&retryWrites=false",
    ),
];

fn parse(c: &mut Criterion<CpuTime>) {
    for (case, uri) in CASES {
        c.benchmark_group("parse a connection string")
            .bench_function(case, |b| {
                b.iter(|| ConnectionString::parse(black_box(uri)).expect("good"));
            });
    }
}

fn main() {
    let mut criterion = criterion(100, 300);
    parse(&mut criterion);
    criterion.final_summary();
}
