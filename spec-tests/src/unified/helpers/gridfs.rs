//! The operations on a bucket of files (GridFS), each made of a few commands that share its time.
//! Uploads are refused.

use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};

use super::{Common, Given, read, schema, write};
use crate::unified::arguments::{Arguments, Required};
use crate::unified::case::{Yield, unsupported};
use crate::unified::entities::Target;
use crate::unified::errors::{Op, OpError};
use crate::unified::stop::Stop;

/// Performs an operation on the bucket of a database.
pub(in crate::unified) async fn perform(name: &str, bucket: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let collection = |name: &str| Target {
        collection: Some(name.to_owned()),
        ..bucket.clone()
    };
    let (files, chunks) = (&collection("fs.files"), &collection("fs.chunks"));
    if name == "find" {
        return read::find(files, (arguments, common)).await;
    }
    let id = arguments.value("id");
    let filename = arguments.text("filename")?;
    let new_name = arguments.text("newFilename")?;
    arguments.finish()?;
    let parts = Parts::begin(bucket, common);
    match (name, id, filename, new_name) {
        ("download", Some(id), None, None) => {
            let newest = doc! { "filter": { "_id": id } };
            download((files, chunks), newest, &parts).await
        }
        ("downloadByName", None, Some(name), None) => {
            let newest = doc! { "filter": { "filename": name }, "sort": { "uploadDate": -1 } };
            download((files, chunks), newest, &parts).await
        }
        ("delete", Some(id), None, None) => {
            let file = parts.next(doc! { "filter": { "_id": id.clone() } });
            write::delete("deleteOne", files, file).await?;
            let its = parts.next(doc! { "filter": { "files_id": id } });
            write::delete("deleteMany", chunks, its).await?;
            Ok(Yield::Nothing)
        }
        ("rename", Some(id), None, Some(name)) => {
            let update = doc! { "$set": { "filename": name } };
            let file = parts.next(doc! { "filter": { "_id": id }, "update": update });
            write::update("updateOne", files, file).await?;
            Ok(Yield::Nothing)
        }
        ("drop", None, None, None) => {
            for collection in ["fs.files", "fs.chunks"] {
                let given = parts.next(doc! { "collection": collection });
                schema::drop_collection(bucket, given).await?;
            }
            Ok(Yield::Nothing)
        }
        (other, ..) => Err(unsupported(other, "a bucket with these arguments").into()),
    }
}

/// The bytes of the file that is found like this.
async fn download((files, chunks): (&Target, &Target), find: Document, parts: &Parts) -> Op<Yield> {
    let found = read::find_one(files, parts.next(find)).await?;
    let Yield::Value(Bson::Document(file)) = found else {
        return Err(OpError::Invalid("there is no such file".to_owned()));
    };
    let id = file.get("_id").cloned().unwrap_or(Bson::Null);
    let its = doc! { "filter": { "files_id": id }, "sort": { "n": 1 } };
    let mut bytes = Vec::new();
    if let Yield::Documents(found) = read::find(chunks, parts.next(its)).await? {
        for chunk in found.iter().filter_map(Bson::as_document) {
            bytes.extend(
                chunk
                    .get_binary_generic("data")
                    .map_err(|error| Stop::fail(format!("{chunk} is no chunk: {error}")))?,
            );
        }
    }
    let length = Arguments::new(file).number("length").required("length")?;
    if usize::try_from(length) != Ok(bytes.len()) {
        let problem = format!("there are {} bytes of {length}", bytes.len());
        return Err(OpError::Invalid(problem));
    }
    let subtype = bson::spec::BinarySubtype::Generic;
    Ok(Yield::Value(bson::Binary { subtype, bytes }.into()))
}

/// The commands of one operation.
struct Parts {
    common: Common,
    limit: Option<Duration>,
    began: Instant,
}

impl Parts {
    fn begin(bucket: &Target, common: Common) -> Self {
        let limit = common.effective_timeout(bucket);
        Self {
            limit: limit.filter(|limit| !limit.is_zero()),
            common,
            began: Instant::now(),
        }
    }

    /// What the next one is given: these arguments, and the time that is left.
    fn next(&self, arguments: Document) -> Given {
        let mut common = self.common.clone();
        // No time at all would stand for no limit.
        let left = |limit: Duration| limit.saturating_sub(self.began.elapsed());
        let left = self
            .limit
            .map(left)
            .map(|left| left.max(Duration::from_millis(1)));
        common.timeout = left.or(common.timeout);
        (Arguments::new(arguments), common)
    }
}
