//! Objects behind URLs: `s3://bucket/key`, `gs://bucket/key`, `az://container/key` and their kin. What fails for a while is
//! tried again, with longer and longer pauses; see docs/cloud.md for the variables that say where and as whom.

use crate::io::files::guarded;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use hashbrown::HashMap;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion, WriteMultipart,
};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;

/// The least that is asked for at once, and the most: a stretch that is read on grows from one to the other.
const READ_MIN: u64 = 1 << 16;
const READ_MAX: u64 = 1 << 22;
/// How many stretches of an object are kept: a column's pages each are one.
const STRETCHES: usize = 12;
/// What is sent at once, and how many pieces of a file and how many files go at the same time.
const PIECE: usize = 8 << 20;
const PIECES: usize = 2;
const FILES: usize = 4;
/// How many objects are removed at once.
const REMOVALS: usize = 32;
/// How long a request is tried again, seconds, unless the environment says otherwise.
const RETRY_S: u64 = 180;
/// No more tries than this, however fast a server refuses; and pauses between an answer that broke off and the next one.
const TRIES_MAX: usize = 1_000;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// The variable that says otherwise.
const RETRY_VARIABLE: &str = "COPRESENCE_RETRY_S";

/// An object that is read.
#[derive(Debug)]
pub struct Reader {
    object: Object,
    bytes: u64,
    kept: Mutex<Kept>,
}

/// What was read of an object, the latest last.
#[derive(Debug, Default)]
struct Kept {
    stretches: VecDeque<(u64, Bytes)>,
    version: Option<String>,
}

/// Which bytes an object has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(UpdateVersion);

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its URL.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// When it was written, ms UTC by the store's clock.
    pub written_at: i64,
}

#[derive(Debug, Clone)]
struct Object {
    store: Arc<dyn ObjectStore>,
    /// The URL up to its key.
    root: String,
    key: Key,
}

fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::result::Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().map_err(|e| e.to_string())
    });
    made.as_ref().map_err(|why| Error::other(why.clone()))
}

fn wait<T>(does: impl Future<Output = object_store::Result<T>>) -> Result<T> {
    block_on(does)?.map_err(|e| told(&e))
}

/// Waits for something; the library panics where a variable makes a request that cannot be.
fn block_on<T>(does: impl Future<Output = T>) -> Result<T> {
    let runtime = runtime()?;
    guarded(|| runtime.block_on(does)).map_err(|_| {
        Error::new(
            ErrorKind::InvalidInput,
            "a request that cannot be made of the variables of the environment",
        )
    })
}

/// What a store answered, as short as it can be said.
fn told(error: &object_store::Error) -> Error {
    let mut text = error.to_string();
    // An answer in XML is its code and its message.
    if let Some(start) = text.find("<?xml").or_else(|| text.find("<Error>")) {
        let part = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            rest.split_once("</").map(|(value, _)| value.to_string())
        };
        let said: Vec<String> = ["Code", "Message"].into_iter().filter_map(part).collect();
        text = format!("{}{}", &text[..start], said.join(": "));
    }
    // What lies below it says why: a refused connection, a name that nobody knows.
    let mut below = std::error::Error::source(error);
    let mut cause = None;
    while let Some(source) = below {
        (cause, below) = (Some(source.to_string()), source.source());
    }
    if let Some(cause) = cause.filter(|cause| !cause.contains('<') && !text.contains(cause.as_str())) {
        text = format!("{text}: {cause}");
    }
    if text.contains("169.254.169.254") {
        text = format!("no credentials in the environment, and none of the machine's own ({text})");
    }
    match error {
        _ if text.contains("status code: 403") || text.contains("status code: 401") => {
            Error::new(ErrorKind::PermissionDenied, format!("a store that refuses: {text}"))
        }
        _ if text.contains("NoSuchBucket") => Error::new(ErrorKind::NotFound, "no such bucket"),
        object_store::Error::NotFound { .. } => Error::new(ErrorKind::NotFound, "no such object"),
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            Error::new(ErrorKind::PermissionDenied, format!("a store that refuses: {text}"))
        }
        object_store::Error::Precondition { .. } => {
            Error::new(ErrorKind::ResourceBusy, "an object that was written anew while it was read")
        }
        _ => Error::other(text),
    }
}

fn wrong(url: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{why}: {url}"))
}

impl Object {
    fn at(url: &Path) -> Result<Self> {
        static STORES: Mutex<Option<HashMap<String, Arc<dyn ObjectStore>>>> = Mutex::new(None);
        let url = url.to_str().ok_or_else(|| wrong("", "a URL that is no text"))?;
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(url, "no URL"))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong(url, "a URL without a bucket"));
        }
        let key = Key::parse(key.trim_end_matches('/')).map_err(|e| wrong(url, &e.to_string()))?;
        let root = format!("{scheme}://{bucket}");
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        let stores = stores.get_or_insert_default();
        let store = match stores.get(&root) {
            Some(store) => store.clone(),
            None => {
                let store = open(scheme, &root)?;
                stores.insert(root.clone(), store.clone());
                store
            }
        };
        Ok(Object { store, root, key })
    }

    fn url(&self, key: &Key) -> PathBuf {
        PathBuf::from(format!("{}/{key}", self.root))
    }
}

/// A bucket, by what the environment says of it.
fn open(scheme: &str, root: &str) -> Result<Arc<dyn ObjectStore>> {
    let variables = &super::surroundings().variables;
    check(variables)?;
    let retry_timeout = retry_time()?;
    let max_retries = if retry_timeout.is_zero() { 0 } else { TRIES_MAX };
    let retry = RetryConfig { retry_timeout, max_retries, ..RetryConfig::default() };
    // Names that an object store does not know are those of other programs.
    macro_rules! build {
        ($builder:ty) => {{
            let builder = <$builder>::new().with_url(root).with_retry(retry);
            let known =
                variables.iter().filter(|(_, value)| !value.is_empty()).filter_map(|(name, value)| {
                    name.to_ascii_lowercase().parse().ok().map(|key| (key, value.clone()))
                });
            let builder = known.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            builder.build().map(|store| Arc::new(store) as Arc<dyn ObjectStore>).map_err(|e| told(&e))
        }};
    }
    match scheme {
        "s3" | "s3a" => build!(AmazonS3Builder),
        "gs" => build!(GoogleCloudStorageBuilder),
        "az" | "azure" | "adl" | "abfs" | "abfss" => build!(MicrosoftAzureBuilder),
        _ => Err(wrong(root, "no scheme among s3, gs, az and abfss")),
    }
}

/// How long what fails for a while is tried again.
fn retry_time() -> Result<Duration> {
    let variables = &super::surroundings().variables;
    let told = variables.iter().find(|(name, value)| name == RETRY_VARIABLE && !value.is_empty());
    let Some((_, value)) = told else { return Ok(Duration::from_secs(RETRY_S)) };
    let seconds: u64 = value.parse().map_err(|_| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("{RETRY_VARIABLE}={value}, which is no whole number of seconds"),
        )
    })?;
    // More than a week is as good as for ever, and no clock runs over.
    Ok(Duration::from_secs(seconds.min(7 * 86_400)))
}

/// Refuses variables of which the library makes requests that cannot be.
fn check(variables: &[(String, String)]) -> Result<()> {
    let wrong = |name: &str, why: &str| Err(Error::new(ErrorKind::InvalidInput, format!("{name} {why}")));
    let allows_http = variables.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("AWS_ALLOW_HTTP") && value.eq_ignore_ascii_case("true")
    });
    let ours = |name: &&(String, String)| {
        ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|start| name.0.to_ascii_uppercase().starts_with(start))
    };
    for (name, value) in variables.iter().filter(ours) {
        // A key in JSON has lines; it goes into no header as it is.
        if value.chars().any(char::is_control) && !value.trim_start().starts_with('{') {
            return wrong(name, "has a line break or another control character in it");
        }
        if !name.to_ascii_uppercase().starts_with("AWS_ENDPOINT") || value.is_empty() {
            continue;
        }
        let Some((scheme, rest)) = value.split_once("://") else {
            return wrong(name, "is no URL that begins with https:// or http://");
        };
        let host = rest.split('/').next().unwrap_or_default();
        let port = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map(|(_, port)| port);
        let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
        let is_host = !host.is_empty() && !host.starts_with(':') && !value.contains(char::is_whitespace);
        match scheme {
            "https" | "http" if !is_host || !is_port => return wrong(name, "is no URL of a server"),
            "http" if !allows_http => {
                return wrong(name, "begins with http://, and AWS_ALLOW_HTTP is not true");
            }
            "https" | "http" => {}
            _ => return wrong(name, "is no URL that begins with https:// or http://"),
        }
    }
    Ok(())
}

impl Reader {
    /// Opens an object of so many bytes.
    pub fn open(url: &Path, bytes: u64) -> Result<Self> {
        Ok(Reader { object: Object::at(url)?, bytes, kept: Mutex::default() })
    }

    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads bytes from an offset on: all that are wanted, or those up to the end.
    pub fn read_at(&self, to: &mut [u8], offset: u64) -> Result<usize> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = 0;
        while read < to.len() && offset + (read as u64) < self.bytes {
            let at = offset + read as u64;
            let stretch = self.stretch(&mut kept, at, (to.len() - read) as u64)?;
            let found = stretch.len().min(to.len() - read);
            to[read..read + found].copy_from_slice(&stretch[..found]);
            read += found;
        }
        Ok(read)
    }

    /// Bytes from an offset on, of what is kept or asked for now.
    fn stretch(&self, kept: &mut Kept, at: u64, wanted: u64) -> Result<Bytes> {
        let within = |(start, bytes): &(u64, Bytes)| *start <= at && at < start + bytes.len() as u64;
        if let Some(known) = kept.stretches.iter().position(within) {
            let stretch = kept.stretches.remove(known).unwrap_or_default();
            kept.stretches.push_back(stretch.clone());
            return Ok(stretch.1.slice((at - stretch.0) as usize..));
        }
        // Who reads on where a stretch ended reads a column, and will want more.
        let goes_on = |(start, bytes): &(u64, Bytes)| {
            let end = start + bytes.len() as u64;
            end <= at && at - end < READ_MIN
        };
        let mut length = READ_MIN;
        if let Some(known) = kept.stretches.iter().position(goes_on) {
            let before = kept.stretches.remove(known).unwrap_or_default();
            length = (before.1.len() as u64 * 4).min(READ_MAX);
        }
        let length = length.max(wanted);
        // The footer lies at the end, and what points into it is read first.
        let tail = self.bytes.saturating_sub(READ_MIN);
        let (start, end) = if at >= tail { (tail, self.bytes) } else { (at, (at + length).min(self.bytes)) };
        let options = GetOptions {
            range: Some(GetRange::Bounded(start..end)),
            if_match: kept.version.clone(),
            ..GetOptions::default()
        };
        let (store, key) = (&self.object.store, &self.object.key);
        let (meta, bytes) = wait(async {
            let got = store.get_opts(key, options).await?;
            Ok((got.meta.clone(), got.bytes().await?))
        })?;
        // Not every server heeds the condition.
        let is_other = kept.version.is_some() && meta.e_tag != kept.version;
        if is_other || meta.size != self.bytes || bytes.len() as u64 != end - start {
            return Err(Error::new(
                ErrorKind::ResourceBusy,
                "an object that was written anew while it was read",
            ));
        }
        kept.version = meta.e_tag;
        if kept.stretches.len() == STRETCHES {
            kept.stretches.pop_front();
        }
        kept.stretches.push_back((start, bytes.clone()));
        Ok(bytes.slice((at - start) as usize..))
    }
}

/// How many bytes an object has.
pub fn size(url: &Path) -> Result<u64> {
    look(url).map(|listed| listed.bytes)
}

/// One object as a listing tells of it.
pub fn look(url: &Path) -> Result<Listed> {
    let object = Object::at(url)?;
    Ok(listed(&object, wait(object.store.head(&object.key))?))
}

fn listed(object: &Object, meta: ObjectMeta) -> Listed {
    let written_at = meta.last_modified.timestamp_millis();
    Listed { path: object.url(&meta.location), bytes: meta.size, written_at }
}

/// All bytes of an object, and which they are.
pub fn get(url: &Path) -> Result<(Vec<u8>, Version)> {
    let object = Object::at(url)?;
    wait(async {
        let got = object.store.get(&object.key).await?;
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        Ok((got.bytes().await?.to_vec(), Version(version)))
    })
}

/// Writes a small object.
pub fn put(url: &Path, bytes: Vec<u8>) -> Result<()> {
    let object = Object::at(url)?;
    wait(object.store.put(&object.key, bytes.into())).map(drop)
}

/// Writes a small object if its bytes are still those that are expected, or none are there; nothing, if others came first.
pub fn put_if(url: &Path, bytes: Vec<u8>, expected: Option<&Version>) -> Result<Option<Version>> {
    let object = Object::at(url)?;
    let mode = expected.map_or(PutMode::Create, |version| PutMode::Update(version.0.clone()));
    let options = PutOptions { mode, ..PutOptions::default() };
    let payload = PutPayload::from(bytes.clone());
    let done = block_on(object.store.put_opts(&object.key, payload, options))?;
    match done {
        Ok(done) => Ok(Some(Version(done.into()))),
        Err(
            object_store::Error::Precondition { .. }
            | object_store::Error::AlreadyExists { .. }
            | object_store::Error::NotFound { .. },
        ) => match get(url) {
            // Tried again after an answer that was lost, it met itself.
            Ok((there, version)) if there == bytes => Ok(Some(version)),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == ErrorKind::NotFound => match expected {
                Some(_) => Ok(None),
                None => Err(e),
            },
            Err(e) => Err(e),
        },
        Err(e) => Err(told(&e)),
    }
}

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Lets no file, and no further piece of one, be sent from now on.
pub fn stop_sending() {
    STOPPED.store(true, Ordering::Relaxed);
}

fn go_on() -> Result<()> {
    if STOPPED.load(Ordering::Relaxed) { Err(Error::other("stopped on request")) } else { Ok(()) }
}

/// Writes objects from files, several at a time: pairs of a file and a URL.
pub fn upload(files: Vec<(PathBuf, PathBuf)>) -> Result<()> {
    let mut sends = Vec::with_capacity(files.len());
    for (from, to) in files {
        sends.push(send(from, Object::at(&to)?));
    }
    block_on(futures_util::stream::iter(sends).buffer_unordered(FILES).try_collect::<Vec<()>>())?.map(drop)
}

async fn send(from: PathBuf, to: Object) -> Result<()> {
    go_on()?;
    let mut file = File::open(&from)?;
    let size = file.metadata()?.len();
    if size <= PIECE as u64 {
        let mut bytes = Vec::with_capacity(size as usize);
        file.read_to_end(&mut bytes)?;
        return to.store.put(&to.key, bytes.into()).await.map(drop).map_err(|e| told(&e));
    }
    let parts = to.store.put_multipart(&to.key).await.map_err(|e| told(&e))?;
    // S3 takes ten thousand pieces of one object.
    let piece = PIECE.max((size / 9_000) as usize);
    let mut sent = WriteMultipart::new_with_chunk_size(parts, piece);
    let mut buffer = vec![0; 1 << 20];
    let all = async {
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            go_on()?;
            sent.wait_for_capacity(PIECES).await.map_err(|e| told(&e))?;
            sent.write(&buffer[..read]);
        }
    };
    let read: Result<()> = all.await;
    match read {
        Ok(()) => sent.finish().await.map(drop).map_err(|e| told(&e)),
        Err(e) => {
            // What was sent of it would be paid for, unseen.
            drop(sent.abort().await);
            Err(e)
        }
    }
}

/// Removes an object; one that is not there is no fault.
pub fn remove(url: &Path) -> Result<()> {
    let object = Object::at(url)?;
    match wait(object.store.delete(&object.key)) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Removes objects, many at a time, as far as that goes.
pub fn remove_all(urls: &[PathBuf]) {
    let objects = urls.iter().filter_map(|url| Object::at(url).ok());
    let removals = objects.map(|object| async move { object.store.delete(&object.key).await.is_ok() });
    let all = futures_util::stream::iter(removals).buffer_unordered(REMOVALS).collect::<Vec<bool>>();
    block_on(all).ok();
}

/// Asks again where an answer ended in its middle, which the library does of objects' own bytes only.
fn whole<T>(url: &Path, asks: impl Fn() -> Result<T>) -> Result<T> {
    let mut pause = PAUSE_MIN;
    let mut left = retry_time()?;
    loop {
        match asks() {
            Err(e) if e.kind() == ErrorKind::Other && e.to_string().contains("body") && !left.is_zero() => {
                pause = pause.min(left);
                tracing::warn!("{}: {e}; asked again in {} ms", url.display(), pause.as_millis());
                std::thread::sleep(pause);
                left = left.saturating_sub(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
            done => return done,
        }
    }
}

/// The objects below a URL, in order of their names.
pub fn list(url: &Path) -> Result<Vec<Listed>> {
    let object = Object::at(url)?;
    let below = (!object.key.as_ref().is_empty()).then_some(&object.key);
    let mut found: Vec<Listed> =
        whole(url, || wait(object.store.list(below).try_collect::<Vec<ObjectMeta>>()))?
            .into_iter()
            .map(|meta| listed(&object, meta))
            .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
