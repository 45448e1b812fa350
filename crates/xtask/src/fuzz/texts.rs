//! Connection strings of every form.

/// Connection strings; what follows a zero byte are the records of a DNS answer.
const URIS: [&str; 24] = [
    "mongodb://localhost",
    "mongodb://localhost:27017,b.example.com:27018,[::1]:27019/?replicaSet=rs0",
    "mongodb://[fe80::1%25eth0]/",
    "mongodb://%2Ftmp%2Fmongodb-27017.sock/db",
    "mongodb://user:p%40ss@localhost/db?authSource=admin&authMechanism=SCRAM-SHA-256",
    "mongodb://user@localhost/?authMechanism=GSSAPI&authMechanismProperties=SERVICE_NAME:x,\
     CANONICALIZE_HOST_NAME:forward,SERVICE_HOST:h,SERVICE_REALM:r",
    "mongodb://localhost/?authMechanism=MONGODB-X509&tls=true&tlsCAFile=a&\
     tlsCertificateKeyFile=b&tlsCertificateKeyFilePassword=c",
    "mongodb://user@localhost/?authMechanism=MONGODB-OIDC&\
     authMechanismProperties=ENVIRONMENT:gcp,TOKEN_RESOURCE:resource",
    "mongodb://id@localhost/?authMechanism=MONGODB-OIDC&\
     authMechanismProperties=ENVIRONMENT:azure,TOKEN_RESOURCE:api%253A//x",
    "mongodb://u:p@localhost/?authMechanism=PLAIN&authSource=$external",
    "mongodb://a,b/?readPreference=secondaryPreferred&readPreferenceTags=dc:ny,rack:1&\
     readPreferenceTags=&maxStalenessSeconds=120&readConcernLevel=majority",
    "mongodb://a/?w=majority&journal=true&wTimeoutMS=100&retryWrites=false&retryReads=true",
    "mongodb://a/?w=2&compressors=snappy,zlib,zstd&zlibCompressionLevel=-1",
    "mongodb://a/?connectTimeoutMS=0&serverSelectionTimeoutMS=10&socketTimeoutMS=20&timeoutMS=30&\
     heartbeatFrequencyMS=500&localThresholdMS=5&serverMonitoringMode=poll&appName=x%20y",
    "mongodb://a/?directConnection=true&serverSelectionTryOnce=false",
    "mongodb://a/?loadBalanced=true&maxPoolSize=0&minPoolSize=1&maxIdleTimeMS=1&maxConnecting=2&\
     waitQueueTimeoutMS=3",
    "mongodb://a/?tlsInsecure=true&tlsDisableOCSPEndpointCheck=true",
    "mongodb://a/?tls=true&tlsAllowInvalidCertificates=true&tlsAllowInvalidHostnames=false",
    "mongodb://a/?proxyHost=p&proxyPort=1&proxyUsername=u&proxyPassword=w",
    "mongodb://a/?ssl=true&unknown=1&W=3&w=4",
    "mongodb+srv://cluster.example.com/?srvMaxHosts=2&srvServiceName=other\0\
     a.example.com:1\nb.example.com.:2\nc.example.com:3\0",
    "mongodb+srv://u:p@cluster.example.com/db\0a.example.com:27017\0\
     authSource=other&replicaSet=rs&loadBalanced=false",
    "mongodb+srv://cluster.example.com/\0evil.example.org:1\nlocalhost:1\0a=b\nc=d",
    "mongodb+srv://x.example.com/?loadBalanced=true\0one.example.com:27017\0",
];

/// The seeds.
pub(super) fn uris() -> Vec<Vec<u8>> {
    URIS.iter().map(|uri| uri.as_bytes().to_vec()).collect()
}
