//! The index on disk: opened, written by one writer, committed together with how far it has come.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use model::{Entry, Record};
use serde::{Deserialize, Serialize};
use tantivy::{
    IndexReader, IndexSettings, IndexWriter, ReloadPolicy, TantivyDocument, TantivyError, Term,
    indexer::IndexWriterOptions, merge_policy::LogMergePolicy,
};

use crate::{
    document,
    fields::{Field, Layout, SCHEMA_VERSION},
    query::QueryError,
    sound,
    view::View,
};

/// Settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Memory for documents that are not on disk yet, in bytes; from 15 MB to 4 GB, values outside are moved there.
    pub memory_bytes: usize,
    /// Segments beyond this many documents are not merged with others any more.
    pub max_merged_documents: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, max_merged_documents: 5_000_000 }
    }
}

/// What can go wrong. The ledger is never concerned: an index is derived and can be built again.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// What lies there cannot be used: another version, damage. Delete it and index again from entry 0.
    #[error("the index must be built again: {why}")]
    Rebuild {
        /// What was found.
        why: String,
    },
    /// The asker's query is wrong.
    #[error("{0}")]
    Query(#[from] QueryError),
    /// Reading or writing failed, such as by a full disk. Documents since the last commit may be lost with it: open the
    /// index again and go on from its cursor.
    #[error("{doing} the index: {source}")]
    Derived {
        /// What was being done.
        doing: &'static str,
        /// What tantivy says.
        source: TantivyError,
    },
}

impl IndexError {
    pub(crate) fn derived(doing: &'static str) -> impl Fn(TantivyError) -> Self {
        move |source| Self::Derived { doing, source }
    }
}

/// How far an index has come: everything that follows from the first `size` entries is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Number of entries.
    pub size: u64,
    /// Hash of the last of those leaves, hex: an index of another ledger does not fit.
    pub leaf_hash: String,
    /// Version of the rules that made the records: those of other rules do not fit either.
    pub rules: u32,
}

/// What is committed with the documents.
#[derive(Serialize, Deserialize)]
struct Payload {
    schema: u32,
    #[serde(flatten)]
    cursor: Cursor,
}

/// Records and entries, searchable. Reading never waits for writing.
pub struct Index {
    pub(crate) layout: Layout,
    reader: IndexReader,
    /// What the last commit made visible.
    view: RwLock<Arc<View>>,
    /// A mutex because indexing takes turns; searching does not touch it.
    writer: Mutex<IndexWriter>,
    folder: PathBuf,
    cursor: Mutex<Option<Cursor>>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("cursor", &self.cursor()).finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the index in `folder`, or creates it there. Every byte of it is read once and compared with what was committed.
    /// [`IndexError::Rebuild`]: what is there is of another version or damaged, and was not touched.
    pub fn open(folder: &Path, config: &Config) -> Result<Self, IndexError> {
        let layout = Layout::default();
        fs::create_dir_all(folder).map_err(|error| IndexError::derived("create")(error.into()))?;
        let exists =
            folder.join("meta.json").try_exists().map_err(|error| IndexError::derived("open")(error.into()))?;
        let index = if exists {
            let index = tantivy::Index::open_in_dir(folder).map_err(unusable)?;
            if index.schema() != layout.schema {
                return Err(IndexError::Rebuild { why: "its fields are those of another version".into() });
            }
            index
        } else {
            // Documents are compressed by the thread that indexes them: there is no processor left for another one.
            let settings = IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
            let builder = tantivy::Index::builder().schema(layout.schema.clone()).settings(settings);
            builder.create_in_dir(folder).map_err(IndexError::derived("create"))?
        };
        let cursor = match index.load_metas().map_err(unusable)?.payload {
            None => None,
            Some(payload) => match serde_json::from_str::<Payload>(&payload) {
                Ok(payload) if payload.schema == SCHEMA_VERSION => Some(payload.cursor),
                Ok(payload) => {
                    let why = format!("documents of version {}, this is version {SCHEMA_VERSION}", payload.schema);
                    return Err(IndexError::Rebuild { why });
                }
                Err(error) => return Err(IndexError::Rebuild { why: format!("its cursor cannot be read: {error}") }),
            },
        };
        if let Some(cursor) = &cursor {
            sound::check(folder, &index, cursor).map_err(|why| IndexError::Rebuild { why })?;
        }
        let reader: IndexReader =
            index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(unusable)?;
        let view = View::new(reader.searcher(), None).map_err(unusable)?;
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1) // documents keep the order in which they were added, and one core is enough
            .num_merge_threads(1)
            .memory_budget_per_thread(config.memory_bytes.clamp(15_000_000, 4_000_000_000))
            .build();
        let writer: IndexWriter = index.writer_with_options(options).map_err(unusable)?;
        let mut merging = LogMergePolicy::default();
        merging.set_max_docs_before_merge(config.max_merged_documents.max(1));
        // Every revision deletes the one before: without this, dead revisions would stay for long.
        merging.set_del_docs_ratio_before_merge(0.3);
        writer.set_merge_policy(Box::new(merging));
        Ok(Self {
            layout,
            reader,
            view: RwLock::new(Arc::new(view)),
            writer: Mutex::new(writer),
            folder: folder.to_owned(),
            cursor: Mutex::new(cursor),
        })
    }

    /// How far the last commit had come; `None` before the first one.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What can be asked now.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, IndexWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The document that [`Index::add_entry`] adds, for those who measure what making it costs.
    #[doc(hidden)]
    pub fn document(&self, entry: &Entry) -> Result<Option<TantivyDocument>, IndexError> {
        document::of_entry(&self.layout, entry).map_err(unwritable)
    }

    /// Adds an entry; heartbeats are left out. Entries never change: add each of them once, from the cursor on.
    pub fn add_entry(&self, entry: &Entry) -> Result<(), IndexError> {
        if let Some(document) = self.document(entry)? {
            self.writer().add_document(document).map_err(IndexError::derived("write"))?;
        }
        Ok(())
    }

    /// Adds a revision of a record in place of the one before.
    pub fn add_record(&self, record: &Record) -> Result<(), IndexError> {
        let document = document::of_record(&self.layout, record).map_err(unwritable)?;
        let id = Term::from_field_text(self.layout.handle(Field::Id), &record.id.0.to_ascii_uppercase());
        let writer = self.writer();
        writer.delete_term(id);
        writer.add_document(document).map_err(IndexError::derived("write"))?;
        Ok(())
    }

    /// Makes everything added so far durable and visible, together with the cursor: all of it or nothing.
    pub fn commit(&self, cursor: &Cursor) -> Result<(), IndexError> {
        let payload = Payload { schema: SCHEMA_VERSION, cursor: cursor.clone() };
        let payload = serde_json::to_string(&payload).map_err(unwritable)?;
        let mut writer = self.writer();
        let mut commit = writer.prepare_commit().map_err(IndexError::derived("commit"))?;
        commit.set_payload(&payload);
        commit.commit().map_err(IndexError::derived("commit"))?;
        sound::note(&self.folder, writer.index(), cursor).map_err(IndexError::derived("commit"))?;
        self.reader.reload().map_err(IndexError::derived("reload"))?;
        let view = View::new(self.reader.searcher(), Some(&self.view())).map_err(IndexError::derived("reload"))?;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = Some(cursor.clone());
        Ok(())
    }
}

/// Trouble while opening: the machine's, which may pass, or the index's, which will not.
fn unusable(error: TantivyError) -> IndexError {
    match error {
        TantivyError::IoError(io) if io.kind() != io::ErrorKind::UnexpectedEof => {
            IndexError::Derived { doing: "open", source: TantivyError::IoError(io) }
        }
        error @ (TantivyError::LockFailure(..) | TantivyError::SystemError(_) | TantivyError::InvalidArgument(_)) => {
            IndexError::Derived { doing: "open", source: error }
        }
        error => IndexError::Rebuild { why: error.to_string() },
    }
}

/// A document that cannot be written as JSON: no value of the model is like that, but serde's type says it may be.
fn unwritable(error: serde_json::Error) -> IndexError {
    IndexError::Derived { doing: "write", source: TantivyError::IoError(std::sync::Arc::new(error.into())) }
}
