//! A checkpoint in a file.
//!
//! The file holds one line of text, `mongo-checkpoint 1 LENGTH CRC32C`, and so many bytes of BSON.
//! It is written under another name beside its place, synced, moved to its place, and the folder
//! synced: at any moment the place holds the old or the new checkpoint, whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use mongo_change_stream::{Checkpoint, CheckpointError};
use mongo_wire::Document;

use super::{CheckpointFailure, CheckpointStore};
use crate::error::{Error, Misuse, Result};

const MAGIC: &str = "mongo-checkpoint 1";

/// Keeps a checkpoint in a file, crash-safe. Only one store of one process may use the file.
///
/// Its folder must exist; beside the file, `FILE.new` is used while it is written.
#[derive(Debug)]
pub struct FileStore {
    place: Arc<Place>,
    /// Counts saves, so that an earlier one never overtakes a later one.
    saves: Mutex<u64>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// The number of the last save that was written.
    written: Mutex<u64>,
}

impl FileStore {
    /// A store in this file, which need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let place = Place {
            path: path.into(),
            written: Mutex::new(0),
        };
        Self {
            place: Arc::new(place),
            saves: Mutex::new(0),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.path
    }
}

impl CheckpointStore for FileStore {
    /// # Errors
    /// [`CheckpointFailure`] when the file is there and cannot be used.
    async fn load(&self) -> Result<Option<Checkpoint>> {
        let place = Arc::clone(&self.place);
        blocking(move || place.read()).await
    }

    /// Dropping the future does not stop the writing.
    ///
    /// # Errors
    /// [`CheckpointFailure::Io`].
    async fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        let place = Arc::clone(&self.place);
        let bytes = encode(checkpoint);
        let number = {
            let mut saves = self.saves.lock().unwrap_or_else(PoisonError::into_inner);
            *saves += 1;
            *saves
        };
        blocking(move || place.write(number, &bytes)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CheckpointFailure> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result.map_err(Box::new)?),
        Err(_) => Err(Error::Misuse(Misuse::TaskGone)),
    }
}

fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let document = checkpoint.to_document();
    let body = document.as_bytes();
    let mut bytes = format!("{MAGIC} {} {:08x}\n", body.len(), crc32c::crc32c(body)).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// # Errors
/// What does not fit.
fn decode(bytes: &[u8]) -> Result<Document, &'static str> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, body) = bytes.split_at(end.ok_or("its first line has no end")?);
    let body = &body[1..];
    let line = std::str::from_utf8(line).map_err(|_| "its first line is no text")?;
    let rest = line.strip_prefix(MAGIC).ok_or("it does not begin as one")?;
    let (length, checksum) = rest.trim().split_once(' ').ok_or("its first line is cut")?;
    if length.parse() != Ok(body.len()) {
        return Err("its length is not what it says");
    }
    if u32::from_str_radix(checksum, 16) != Ok(crc32c::crc32c(body)) {
        return Err("its checksum does not fit");
    }
    Document::copy_from_slice(body).map_err(|_| "it holds no BSON")
}

impl Place {
    fn read(&self) -> Result<Option<Checkpoint>, CheckpointFailure> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.failed(source)),
        };
        let document = decode(&bytes).map_err(|reason| CheckpointFailure::Damaged {
            path: self.path.clone(),
            reason,
        })?;
        let checkpoint: Result<_, CheckpointError> = Checkpoint::from_document(document.as_raw());
        Ok(Some(checkpoint?))
    }

    fn write(&self, number: u64, bytes: &[u8]) -> Result<(), CheckpointFailure> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if number < *written {
            return Ok(());
        }
        self.replace(bytes).map_err(|source| self.failed(source))?;
        *written = number;
        Ok(())
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let mut file = File::create(&name)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&name, &self.path)?;
        // The new name is safe only once its folder is.
        let folder = self.path.parent().filter(|folder| folder.as_os_str() != "");
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn failed(&self, source: io::Error) -> CheckpointFailure {
        CheckpointFailure::Io {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use mongo_change_stream::{ResumePoint, StreamIdentity, WatchTarget};

    use super::*;

    fn checkpoint(n: i32) -> Checkpoint {
        Checkpoint {
            identity: StreamIdentity::new(&WatchTarget::Cluster, &[]),
            point: ResumePoint {
                token: rawdoc! { "_data": n }.into(),
                after_invalidate: n % 2 == 0,
            },
        }
    }

    fn store() -> (tempfile::TempDir, FileStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path().join("a.checkpoint"));
        (folder, store)
    }

    #[tokio::test]
    async fn what_was_saved_last_is_loaded() {
        let (folder, store) = store();
        assert_eq!(store.load().await.unwrap(), None);
        for n in 0..5 {
            store.save(&checkpoint(n)).await.unwrap();
            assert_eq!(store.load().await.unwrap(), Some(checkpoint(n)));
        }
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left over"
        );
    }

    #[tokio::test]
    async fn what_a_crash_has_left_beside_the_file_is_of_no_consequence() {
        let (_folder, store) = store();
        store.save(&checkpoint(1)).await.unwrap();
        let torn = store.path().with_file_name("a.checkpoint.new");
        fs::write(&torn, &encode(&checkpoint(2))[..20]).unwrap();
        assert_eq!(store.load().await.unwrap(), Some(checkpoint(1)));
        store.save(&checkpoint(3)).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Some(checkpoint(3)));
    }

    #[tokio::test]
    async fn a_torn_or_changed_file_is_never_taken_for_a_checkpoint() {
        let (_folder, store) = store();
        let whole = encode(&checkpoint(1));
        let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
        damaged.extend((0..whole.len()).map(|at| {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            changed
        }));
        damaged.push([&whole[..], b"x"].concat());
        for bytes in damaged {
            fs::write(store.path(), &bytes).unwrap();
            match store.load().await {
                Err(Error::Checkpoint(failure)) => {
                    let is_damage = matches!(*failure, CheckpointFailure::Damaged { .. });
                    assert!(is_damage, "{failure}");
                }
                // A letter of the checksum in the other case, or a blank for a line's end.
                Ok(Some(loaded)) => assert_eq!(loaded, checkpoint(1), "{bytes:?}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_an_error_with_its_name() {
        let store = FileStore::new("/nowhere/at/all");
        let error = store.save(&checkpoint(1)).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }

    #[test]
    fn an_earlier_save_does_not_overtake_a_later_one() {
        let (_folder, store) = store();
        store.place.write(2, &encode(&checkpoint(2))).unwrap();
        store.place.write(1, &encode(&checkpoint(1))).unwrap();
        assert_eq!(store.place.read().unwrap(), Some(checkpoint(2)));
    }
}
