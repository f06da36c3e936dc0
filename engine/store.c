/* store.c - see store.h.
 *
 * Every function is one transaction, so what a kill leaves is before it or after
 * it. Where a file and a row change together the row is written so that both
 * orders of a kill can be told apart when it is read: a picture in the trash
 * lies in the trash's folder or still in its place, and store_picture.path says
 * where; a latent without a row is removed when the store is opened. */
#include "engine/store.h"

#include "engine/cache.h"
#include "engine/job_text.h"
#include "engine/record.h"
#include "engine/shelf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUSY_MS = 2000, JPEG_QUALITY = 85, OWNER_MAX = SHELF_NAME_MAX };
static const char trash_folder[] = ".sluice-trash";
static const char latent_suffix[] = ".latent.safetensors";

struct store {
    sqlite3 *db;
    int lock;              /* the descriptor whose lock says that this program lives; -1: none */
    char owner[OWNER_MAX]; /* the lock file's name */
    char path[FILE_PATH_MAX], running[FILE_PATH_MAX], latents[FILE_PATH_MAX];
};

/* --- the schema -------------------------------------------------------------------- */

/* "sluc": tells our files from other programs'. */
enum { APPLICATION = 0x736c7563 };

/* What makes version i + 1 of version i. Never changed, only added to. */
static const char *const versions[] = {
    "CREATE TABLE queue("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, position INTEGER NOT NULL, state INTEGER NOT NULL,"
    "  owner TEXT NOT NULL, job BLOB NOT NULL, model TEXT NOT NULL, preset TEXT NOT NULL, prompt TEXT NOT NULL,"
    "  error TEXT NOT NULL DEFAULT '', pictures INTEGER NOT NULL, made INTEGER NOT NULL DEFAULT 0,"
    "  step INTEGER NOT NULL DEFAULT 0, steps INTEGER NOT NULL, added INTEGER NOT NULL,"
    "  begun INTEGER NOT NULL DEFAULT 0, ended INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX queue_order ON queue(position);"
    "CREATE TABLE history("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB NOT NULL, bytes INTEGER NOT NULL, changed INTEGER NOT NULL,"
    "  prompt TEXT NOT NULL, negative TEXT NOT NULL, model TEXT NOT NULL, preset TEXT NOT NULL, record TEXT NOT NULL,"
    "  seed INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, time INTEGER NOT NULL,"
    "  seconds REAL NOT NULL, mark INTEGER NOT NULL DEFAULT 0, trashed INTEGER NOT NULL DEFAULT 0);"
    /* In the trash there may be several of one path. */
    "CREATE UNIQUE INDEX history_path ON history(path) WHERE trashed = 0;"
    "CREATE INDEX history_order ON history(trashed, time, id);"
    /* All that is asked of a row that a search has found, until it is shown: a twentieth of its size. */
    "CREATE INDEX history_found ON history(id, trashed, time);"
    /* Apart: rows stay small, and a page of them is read without the pictures. */
    "CREATE TABLE thumbnail(id INTEGER PRIMARY KEY REFERENCES history(id) ON DELETE CASCADE, jpeg BLOB NOT NULL);"
    "CREATE VIRTUAL TABLE words USING fts5(prompt, negative, model, preset, content='history', content_rowid='id',"
    "  prefix='1 2 3', tokenize='unicode61 remove_diacritics 2');"
    "CREATE TRIGGER history_in AFTER INSERT ON history BEGIN"
    "  INSERT INTO words(rowid, prompt, negative, model, preset)"
    "  VALUES(new.id, new.prompt, new.negative, new.model, new.preset); END;"
    "CREATE TRIGGER history_out AFTER DELETE ON history BEGIN"
    "  INSERT INTO words(words, rowid, prompt, negative, model, preset)"
    "  VALUES('delete', old.id, old.prompt, old.negative, old.model, old.preset); END;"
    "CREATE TRIGGER history_new AFTER UPDATE OF prompt, negative, model, preset ON history BEGIN"
    "  INSERT INTO words(words, rowid, prompt, negative, model, preset)"
    "  VALUES('delete', old.id, old.prompt, old.negative, old.model, old.preset);"
    "  INSERT INTO words(rowid, prompt, negative, model, preset)"
    "  VALUES(new.id, new.prompt, new.negative, new.model, new.preset); END;",
    "ALTER TABLE queue ADD COLUMN fault TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE queue ADD COLUMN stage TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE history ADD COLUMN job INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX history_job ON history(job) WHERE job != 0;",
};
enum { VERSION = sizeof versions / sizeof *versions };

/* --- asking ------------------------------------------------------------------------ */

static bool damaged(int rc)
{
    return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
}

enum { BESIDE_MAX = FILE_PATH_MAX + 32 };

/* "studio.db" and what. */
static const char *beside(const struct store *s, const char *what, char path[BESIDE_MAX])
{
    snprintf(path, BESIDE_MAX, "%s%s", s->path, what);
    return path;
}

/* Damage found on the way is remembered by this file, for the next store_open. */
static const char is_damaged[] = ".is-damaged";

static bool wrong(const struct store *s, struct err *e)
{
    int rc = sqlite3_extended_errcode(s->db);
    char mark[BESIDE_MAX];
    if (damaged(rc))
        file_write(beside(s, is_damaged, mark), "", 0, NULL);
    switch (rc & 0xff) {
    case SQLITE_NOMEM: return err_set(e, ERR_MEMORY, "%s: out of memory", s->path);
    case SQLITE_FULL:
    case SQLITE_IOERR:
        return err_set(e, (rc & 0xff) == SQLITE_FULL ? ERR_DISK_FULL : ERR_IO,
                       "%s: %s: is the disk full? What was kept before is still there", s->path,
                       sqlite3_errmsg(s->db));
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return err_set(e, ERR_IO, "%s: another program has it locked: try again later", s->path);
    case SQLITE_READONLY: return err_set(e, ERR_IO, "%s cannot be written", s->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(e, ERR_INPUT, "%s: it is damaged: the next start sets it aside and makes a new one", s->path);
    default: return err_set(e, ERR_IO, "%s: %s", s->path, sqlite3_errmsg(s->db));
    }
}

static bool simple(struct store *s, const char *sql, struct err *e)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK || wrong(s, e);
}

/* types: a letter for each argument: i int64_t, d double, t text, b path or other bytes as text.
 * Texts have to live until the statement ends. NULL with e set. */
static sqlite3_stmt *ask(struct store *s, struct err *e, const char *sql, const char *types, ...)
{
    sqlite3_stmt *q = NULL;
    va_list ap;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    va_start(ap, types);
    for (int i = 1; rc == SQLITE_OK && types[i - 1]; i++) {
        const char *text;
        switch (types[i - 1]) {
        case 'i': rc = sqlite3_bind_int64(q, i, va_arg(ap, int64_t)); break;
        case 'd': rc = sqlite3_bind_double(q, i, va_arg(ap, double)); break;
        case 't': rc = sqlite3_bind_text(q, i, va_arg(ap, const char *), -1, SQLITE_STATIC); break;
        case 'b':
            text = va_arg(ap, const char *);
            rc = sqlite3_bind_blob64(q, i, text, strlen(text), SQLITE_STATIC);
            break;
        }
    }
    va_end(ap);
    if (rc == SQLITE_OK)
        return q;
    wrong(s, e);
    sqlite3_finalize(q);
    return NULL;
}

/* What went wrong inside, if anything did, to the caller. Returns whether nothing did. */
static bool pass_on(const struct err *own, struct err *e)
{
    return own->kind == ERR_NONE || err_set(e, own->kind, "%s", own->text);
}

/* The next row; false at the end, or with e set. */
static bool row(struct store *s, sqlite3_stmt *q, struct err *e)
{
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        return true;
    if (rc != SQLITE_DONE)
        wrong(s, e);
    return false;
}

/* To its end, for one that changes something or (out) gives one number. q may be NULL: e is set then. */
static bool finish(struct store *s, sqlite3_stmt *q, int64_t *out, struct err *e)
{
    struct err own = { 0 };
    if (!q)
        return false;
    if (out)
        *out = 0;
    while (row(s, q, &own))
        if (out)
            *out = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return pass_on(&own, e);
}

static bool begin(struct store *s, struct err *e)
{
    return simple(s, "BEGIN IMMEDIATE", e);
}

/* Ends what begin began: all of it, or if !ok nothing. */
static bool end(struct store *s, bool ok, struct err *e)
{
    ok = ok && simple(s, "COMMIT", e);
    if (!ok && !sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return ok;
}

/* Column i as a malloc'd text; *ok false: out of memory. */
static char *text_of(sqlite3_stmt *q, int i, bool *ok)
{
    const void *bytes = sqlite3_column_blob(q, i);
    int n = sqlite3_column_bytes(q, i);
    char *copy = strndup(bytes ? bytes : "", (size_t)n);
    *ok &= copy != NULL;
    return copy;
}

/* --- who lives -------------------------------------------------------------------- */

static bool same_file(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* The lock goes with the program, however it ends: nothing has to be cleaned up, and no process id is
 * mistaken for a later one's. */
static bool session_open(struct store *s, struct err *e)
{
    char path[FILE_PATH_MAX];
    if (!cache_make(s->running, e))
        return false;
    for (unsigned i = 0;; i++) {
        snprintf(s->owner, sizeof s->owner, "%ld-%u", (long)getpid(), i);
        if (!file_join(path, s->running, s->owner, e))
            return false;
        s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (s->lock < 0)
            return err_errno(e, errno, "%s", path);
        /* Whoever finds it without a lock removes it: perhaps before it got one. */
        if (flock(s->lock, LOCK_EX | LOCK_NB) == 0 && same_file(s->lock, path))
            return true;
        close(s->lock);
        s->lock = -1;
    }
}

static void session_close(struct store *s)
{
    char path[FILE_PATH_MAX];
    if (s->lock < 0)
        return;
    if (file_join(path, s->running, s->owner, NULL))
        unlink(path);
    close(s->lock);
    s->lock = -1;
}

/* Another program's lock; one that nobody holds is removed. */
static bool lives(const struct store *s, const char *owner)
{
    char path[FILE_PATH_MAX];
    if (!shelf_is_name(owner) || !file_join(path, s->running, owner, NULL))
        return false;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool held = flock(fd, LOCK_EX | LOCK_NB) < 0;
    if (!held && same_file(fd, path))
        unlink(path);
    close(fd);
    return held;
}

/* What a program of which nothing is left had becomes everybody's. `gone`: the dead one's name. */
static bool give_back(struct store *s, const char *gone, struct err *e)
{
    return finish(s, ask(s, e, "UPDATE queue SET owner = '', state = CASE state WHEN ?1 THEN ?2 ELSE state END"
                               " WHERE owner = ?3", "iit", (int64_t)STORE_RUNNING, (int64_t)STORE_INTERRUPTED, gone),
                  NULL, e);
}

/* Of all programs that have jobs, those that are no more. */
static bool sweep(struct store *s, struct err *e)
{
    struct err own = { 0 };
    char gone[OWNER_MAX] = "";
    while (own.kind == ERR_NONE) {
        sqlite3_stmt *q = ask(s, &own, "SELECT DISTINCT owner FROM queue WHERE owner NOT IN ('', ?1)", "t", s->owner);
        *gone = '\0';
        while (q && !*gone && row(s, q, &own)) {
            const char *owner = (const char *)sqlite3_column_text(q, 0);
            if (owner && !lives(s, owner))
                snprintf(gone, sizeof gone, "%s", owner);
        }
        sqlite3_finalize(q);
        if (!*gone || !give_back(s, gone, &own))
            break;
    }
    return pass_on(&own, e);
}

/* Lock files of programs that were killed, and latents of jobs that are gone. */
static void tidy(struct store *s)
{
    struct err ignored = { 0 };
    DIR *d = opendir(s->running);
    for (const struct dirent *f; d && (f = readdir(d));)
        if (strcmp(f->d_name, s->owner))
            lives(s, f->d_name);
    if (d)
        closedir(d);
    d = opendir(s->latents);
    for (const struct dirent *f; d && (f = readdir(d));) {
        char *rest, path[FILE_PATH_MAX];
        int64_t found = 1, id = strtoll(f->d_name, &rest, 10);
        if (rest != f->d_name && !strcmp(rest, latent_suffix) &&
            finish(s, ask(s, &ignored, "SELECT count(*) FROM queue WHERE id = ?1", "i", id), &found, &ignored) &&
            !found && file_join(path, s->latents, f->d_name, NULL))
            unlink(path);
    }
    if (d)
        closedir(d);
}

/* --- opening ------------------------------------------------------------------------ */

static bool own_path(char path[FILE_PATH_MAX], struct err *e)
{
    int n = file_xdg(path, "XDG_STATE_HOME", ".local/state", "studio.db");
    if (!n)
        return err_set(e, ERR_INPUT,
                       "no place for queue and history: neither XDG_STATE_HOME nor HOME is an absolute path");
    return n < FILE_PATH_MAX || err_set(e, ERR_INPUT, "%.200s...: the path is too long", path);
}

static bool connect_db(struct store *s, struct err *e)
{
    /* Made here, so that nobody else can read it, nor what SQLite puts beside it. */
    int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    int rc = sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE, NULL);
    if (rc != SQLITE_OK)
        return s->db ? wrong(s, e) : err_set(e, ERR_MEMORY, "out of memory");
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, BUSY_MS);
    if (sqlite3_db_readonly(s->db, "main"))
        return err_set(e, ERR_IO, "%s cannot be written", s->path);
    /* The mode stays with the file: this is for a new one, and refused while another program does the same. */
    sqlite3_exec(s->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
    return simple(s, "PRAGMA synchronous = NORMAL", e) && simple(s, "PRAGMA foreign_keys = ON", e);
}

/* False with ERR_INPUT: it is none of ours, or damaged, where that can be told in a moment. */
static bool examine(struct store *s, int64_t *version, struct err *e)
{
    int64_t application, tables;
    if (!finish(s, ask(s, e, "PRAGMA user_version", ""), version, e) ||
        !finish(s, ask(s, e, "PRAGMA application_id", ""), &application, e) ||
        !finish(s, ask(s, e, "SELECT count(*) FROM sqlite_schema", ""), &tables, e))
        return false;
    if (tables && application != APPLICATION)
        return err_set(e, ERR_INPUT, "%s: it is another program's database", s->path);
    if (*version > VERSION)
        return err_set(e, ERR_IO, "%s: a newer sluice has made it: this one knows versions to %d, it is version %lld",
                       s->path, VERSION, (long long)*version);
    bool sound = true;
    sqlite3_stmt *q = tables ? ask(s, e, "PRAGMA quick_check(queue)", "") : NULL;
    if (q && row(s, q, e)) {
        const char *answer = (const char *)sqlite3_column_text(q, 0);
        sound = answer && !strcmp(answer, "ok");
    }
    sqlite3_finalize(q);
    if (!sound)
        return err_set(e, ERR_INPUT, "%s: it is damaged", s->path);
    return tables ? finish(s, ask(s, e, "SELECT max(id) FROM history", ""), NULL, e) : true;
}

static bool migrate(struct store *s, int64_t version, struct err *e)
{
    char sql[128];
    if (version == VERSION)
        return true;
    if (!begin(s, e))
        return false;
    /* Another program may have been faster. */
    bool ok = finish(s, ask(s, e, "PRAGMA user_version", ""), &version, e);
    for (; ok && version < VERSION; version++)
        ok = simple(s, versions[version], e);
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION, VERSION);
    return end(s, ok && simple(s, sql, e), e);
}

static void disconnect(struct store *s)
{
    sqlite3_close(s->db);
    s->db = NULL;
}

static bool try_open(struct store *s, struct err *e)
{
    int64_t version = 0;
    char mark[BESIDE_MAX];
    if (file_exists(beside(s, is_damaged, mark)))
        return err_set(e, ERR_INPUT, "%s: it is damaged", s->path);
    return connect_db(s, e) && examine(s, &version, e) && migrate(s, version, e);
}

/* The file and what SQLite keeps beside it, which belongs to it and to no other. */
static bool set_aside(struct store *s, char notice[STORE_NOTICE_BYTES], const struct err *why, struct err *e)
{
    static const char *const parts[] = { "", "-wal", "-shm" };
    char from[BESIDE_MAX], to[BESIDE_MAX], name[32];
    int n = 1;
    disconnect(s);
    do
        snprintf(name, sizeof name, ".damaged-%d", n++);
    while (access(beside(s, name, to), F_OK) == 0);
    for (int i = 2; i >= 0; i--) {
        snprintf(name, sizeof name, ".damaged-%d%s", n - 1, parts[i]);
        if (rename(beside(s, parts[i], from), beside(s, name, to)) < 0 && errno != ENOENT)
            return err_errno(e, errno, "%s cannot be set aside as %s", from, to);
    }
    unlink(beside(s, is_damaged, from));
    snprintf(notice, STORE_NOTICE_BYTES,
             "%.400s. It is now %.300s, and queue and history begin anew; sluice history scan "
             "FOLDER finds pictures again", why->text, to);
    return true;
}

bool store_open(struct store **out, const char *path, char notice[STORE_NOTICE_BYTES], struct err *e)
{
    struct err why = { 0 };
    char folder[FILE_PATH_MAX];
    struct store *s = *out = calloc(1, sizeof *s);
    notice[0] = '\0';
    if (!s)
        return err_set(e, ERR_MEMORY, "out of memory");
    s->lock = -1;
    bool ok = path ? strlen(path) < FILE_PATH_MAX - 16 || err_set(e, ERR_INPUT, "%.200s...: the path is too long", path)
                   : own_path(s->path, e);
    if (ok && path)
        strcpy(s->path, path);
    if (ok) {
        file_folder(s->path, folder);
        ok = cache_make(folder, e) && file_join(s->running, folder, "running", e) &&
             file_join(s->latents, folder, "latents", e);
    }
    if (ok && !try_open(s, &why)) {
        ok = why.kind == ERR_INPUT ? set_aside(s, notice, &why, e) && try_open(s, e)
                                   : err_set(e, why.kind, "%s", why.text);
    }
    ok = ok && session_open(s, e) && cache_make(s->latents, e) && sweep(s, e);
    if (ok)
        tidy(s);
    if (!ok) {
        store_close(s);
        *out = NULL;
    }
    return ok;
}

void store_close(struct store *s)
{
    struct err ignored = { 0 };
    if (!s)
        return;
    if (s->db && s->lock >= 0)
        give_back(s, s->owner, &ignored);
    session_close(s);
    disconnect(s);
    free(s);
}

const char *store_path(const struct store *s)
{
    return s->path;
}

/* --- the queue ----------------------------------------------------------------------- */

const char *store_state_name(enum store_state s)
{
    static const char *const names[STORE_STATE_COUNT_] = { "waiting", "running", "paused",   "interrupted",
                                                           "done",    "failed",  "cancelled" };
    return (unsigned)s < STORE_STATE_COUNT_ ? names[s] : "?";
}

void store_job_free(struct store_job *j)
{
    free(j->text);
    free(j->model);
    free(j->preset);
    free(j->prompt);
    free(j->error);
    *j = (struct store_job){ 0 };
}

void store_queue_free(struct store_queue *q)
{
    for (int i = 0; i < q->count; i++)
        store_job_free(&q->at[i]);
    free(q->at);
    *q = (struct store_queue){ 0 };
}

/* Room for one more in `list`, of which there are *count; zeroed, and counted. NULL: out of memory. */
static void *one_more(void *list, int *count, size_t size)
{
    void **at = list;
    if ((*count & (*count - 1)) == 0) {
        void *grown = realloc(*at, (size_t)(*count ? 2 * *count : 1) * size);
        if (!grown)
            return NULL;
        *at = grown;
    }
    return memset((char *)*at + (size_t)(*count)++ * size, 0, size);
}

static bool no_memory(const struct store *s, struct err *e)
{
    return err_set(e, ERR_MEMORY, "%s: out of memory", s->path);
}

#define JOB_COLUMNS "id, state, owner NOT IN ('', ?1), job, model, preset, prompt, error, pictures, made, step," \
                    " steps, added, begun, ended, fault, stage"

/* False: out of memory. */
static bool read_job(sqlite3_stmt *q, struct store_job *j)
{
    bool ok = true;
    const char *fault = (const char *)sqlite3_column_text(q, 15), *stage = (const char *)sqlite3_column_text(q, 16);
    *j = (struct store_job){
        .id = sqlite3_column_int64(q, 0), .state = (enum store_state)sqlite3_column_int(q, 1),
        .foreign = sqlite3_column_int(q, 2), .text = text_of(q, 3, &ok), .model = text_of(q, 4, &ok),
        .preset = text_of(q, 5, &ok), .prompt = text_of(q, 6, &ok), .error = text_of(q, 7, &ok),
        .pictures = sqlite3_column_int(q, 8), .made = sqlite3_column_int(q, 9), .step = sqlite3_column_int(q, 10),
        .steps = sqlite3_column_int(q, 11), .added = sqlite3_column_int64(q, 12),
        .begun = sqlite3_column_int64(q, 13), .ended = sqlite3_column_int64(q, 14),
        .fault = err_kind_named(fault ? fault : ""), .stage = stage_named(stage ? stage : ""),
    };
    return ok;
}

bool store_queue_list(struct store *s, struct store_queue *list, struct err *e)
{
    struct err own = { 0 };
    *list = (struct store_queue){ 0 };
    if (!sweep(s, e))
        return false;
    sqlite3_stmt *q = ask(s, &own, "SELECT " JOB_COLUMNS " FROM queue ORDER BY position, id", "t", s->owner);
    while (q && row(s, q, &own)) {
        struct store_job *j = one_more(&list->at, &list->count, sizeof *j);
        if (!j || !read_job(q, j)) {
            no_memory(s, &own);
            break;
        }
    }
    sqlite3_finalize(q);
    if (own.kind != ERR_NONE)
        store_queue_free(list);
    return pass_on(&own, e);
}

bool store_latent_path(const struct store *s, int64_t id, char path[FILE_PATH_MAX], struct err *e)
{
    char name[64];
    snprintf(name, sizeof name, "%lld%s", (long long)id, latent_suffix);
    return file_join(path, s->latents, name, e);
}

static void remove_latent(const struct store *s, int64_t id)
{
    char path[FILE_PATH_MAX];
    if (store_latent_path(s, id, path, NULL))
        unlink(path);
}

bool store_queue_add(struct store *s, const struct job *j, const char *model, const char *preset, int64_t *id,
                     struct err *e)
{
    char *text = job_text(j, e);
    bool ok = text && begin(s, e);
    if (ok) {
        ok = finish(s,
                    ask(s, e, "INSERT INTO queue(position, state, owner, job, model, preset, prompt, pictures, steps,"
                                 " added) SELECT coalesce(max(position), 0) + 1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9"
                                 " FROM queue", "itbtttiii", (int64_t)STORE_WAITING, s->owner, text, model, preset,
                           j->prompt, (int64_t)job_pictures(j), (int64_t)j->steps, (int64_t)time(NULL)), NULL, e);
        *id = sqlite3_last_insert_rowid(s->db);
        ok = end(s, ok, e);
    }
    free(text);
    return ok;
}

/* A change to one job that is in one of the states (a set of bits) and no other program's. Between begin and end. */
static bool may_change(struct store *s, int64_t id, unsigned states, struct err *e)
{
    struct err own = { 0 };
    enum store_state state = STORE_WAITING;
    char owner[OWNER_MAX] = "";
    sqlite3_stmt *q = ask(s, &own, "SELECT state, owner FROM queue WHERE id = ?1", "i", id);
    bool found = q && row(s, q, &own);
    if (found) {
        const char *has = (const char *)sqlite3_column_text(q, 1);
        state = (enum store_state)sqlite3_column_int(q, 0);
        snprintf(owner, sizeof owner, "%s", has ? has : "");
    }
    sqlite3_finalize(q);
    if (!pass_on(&own, e))
        return false;
    if (!found)
        return err_set(e, ERR_AGAIN, "there is no job %lld in the queue", (long long)id);
    if (*owner && strcmp(owner, s->owner)) {
        if (lives(s, owner))
            return err_set(e, ERR_AGAIN, "job %lld is another sluice's (process %ld): it has to be changed there",
                           (long long)id, strtol(owner, NULL, 10));
        if (!give_back(s, owner, e))
            return false;
        state = state == STORE_RUNNING ? STORE_INTERRUPTED : state;
    }
    return states & 1u << state || err_set(e, ERR_AGAIN, "job %lld is %s", (long long)id, store_state_name(state));
}

static const unsigned idle_states = 1u << STORE_WAITING | 1u << STORE_PAUSED | 1u << STORE_INTERRUPTED;
static const unsigned ended_states = 1u << STORE_DONE | 1u << STORE_FAILED | 1u << STORE_CANCELLED;

bool store_queue_replace(struct store *s, int64_t id, const struct job *j, const char *model, const char *preset,
                         struct err *e)
{
    char *text = job_text(j, e);
    bool ok = text && begin(s, e);
    if (ok) {
        ok = may_change(s, id, idle_states, e) &&
             finish(s, ask(s, e,
                           "UPDATE queue SET state = ?1, job = ?2, model = ?3, preset = ?4, prompt = ?5, pictures = ?6,"
                                 " made = 0, step = 0, steps = ?7 WHERE id = ?8", "ibtttiii",
                                 (int64_t)STORE_WAITING, text,
                           model, preset, j->prompt, (int64_t)job_pictures(j), (int64_t)j->steps, id), NULL, e);
        ok = end(s, ok, e);
    }
    if (ok)
        remove_latent(s, id);
    free(text);
    return ok;
}

bool store_queue_amend(struct store *s, int64_t id, const struct job *j, struct err *e)
{
    char *text = job_text(j, e);
    bool ok = text && begin(s, e);
    if (ok) {
        ok = may_change(s, id, ~(1u << STORE_RUNNING | 1u << STORE_DONE), e) &&
             finish(s, ask(s, e,
                           "UPDATE queue SET state = ?1, owner = ?2, job = ?3, error = '', fault = '', stage = '',"
                                 " ended = 0 WHERE id = ?4", "itbi", (int64_t)STORE_WAITING, s->owner, text,
                                 id), NULL, e);
        ok = end(s, ok, e);
    }
    free(text);
    return ok;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

bool store_queue_reorder(struct store *s, const int64_t *ids, int count, struct err *e)
{
    int64_t *place = calloc((size_t)count + 1, sizeof *place);
    if (!place)
        return no_memory(s, e);
    bool ok = begin(s, e);
    if (ok) {
        for (int i = 0; ok && i < count; i++)
            ok = may_change(s, ids[i], ~0u, e) &&
                 finish(s, ask(s, e, "SELECT position FROM queue WHERE id = ?1", "i", ids[i]), &place[i], e);
        qsort(place, (size_t)count, sizeof *place, by_number);
        for (int i = 0; ok && i < count; i++)
            ok = finish(s, ask(s, e, "UPDATE queue SET position = ?1 WHERE id = ?2", "ii", place[i], ids[i]), NULL, e);
        ok = end(s, ok, e);
    }
    free(place);
    return ok;
}

bool store_queue_remove(struct store *s, int64_t id, struct err *e)
{
    if (!begin(s, e))
        return false;
    bool ok = may_change(s, id, idle_states | ended_states, e) &&
              finish(s, ask(s, e, "DELETE FROM queue WHERE id = ?1", "i", id), NULL, e);
    ok = end(s, ok, e);
    if (ok)
        remove_latent(s, id);
    return ok;
}

bool store_queue_clear(struct store *s, bool all, int *removed, struct err *e)
{
    struct store_queue list;
    *removed = 0;
    if (!store_queue_list(s, &list, e))
        return false;
    bool ok = true;
    for (int i = 0; ok && i < list.count; i++) {
        const struct store_job *j = &list.at[i];
        struct err why = { 0 };
        if (j->foreign || !((ended_states | (all ? idle_states : 0)) & 1u << j->state))
            continue;
        bool gone = store_queue_remove(s, j->id, &why);
        *removed += gone;
        ok = gone || why.kind == ERR_AGAIN || pass_on(&why, e);
    }
    store_queue_free(&list);
    return ok;
}

/* The job as it is to be submitted. */
static bool kept_job(struct store *s, int64_t id, struct store_job *r, struct job *j, struct err *e)
{
    struct err own = { 0 };
    char path[FILE_PATH_MAX];
    sqlite3_stmt *q = ask(s, &own, "SELECT " JOB_COLUMNS " FROM queue WHERE id = ?2", "ti", s->owner, id);
    if (q && row(s, q, &own) && !read_job(q, r))
        no_memory(s, &own);
    sqlite3_finalize(q);
    if (!pass_on(&own, e))
        return false;
    bool ok = job_from_text(j, r->text, e) && store_latent_path(s, id, path, e) &&
              job_set_string(&j->checkpoint, path, e) && (!file_exists(path) || job_set_string(&j->resume, path, e));
    j->first = r->made;
    return ok;
}

bool store_queue_claim(struct store *s, int64_t id, struct store_job *r, struct job *j, struct err *e)
{
    *r = (struct store_job){ 0 };
    *j = (struct job){ 0 };
    if (!begin(s, e))
        return false;
    bool ok = may_change(s, id, ~(1u << STORE_RUNNING | 1u << STORE_DONE), e) &&
              finish(s, ask(s, e,
                            "UPDATE queue SET state = ?1, owner = ?2, error = '', fault = '', stage = '', begun = ?3,"
                                  " ended = 0 WHERE id = ?4", "itii", (int64_t)STORE_RUNNING, s->owner,
                                  (int64_t)time(NULL), id), NULL, e);
    return end(s, ok && kept_job(s, id, r, j, e), e);
}

bool store_queue_next(struct store *s, int64_t *id, struct err *e)
{
    *id = 0;
    return sweep(s, e) && finish(s, ask(s, e, "SELECT id FROM queue WHERE state IN (?1, ?2) AND owner IN ('', ?3)"
                                              " ORDER BY position, id LIMIT 1", "iit", (int64_t)STORE_WAITING,
                                        (int64_t)STORE_INTERRUPTED, s->owner), id, e);
}

bool store_queue_step(struct store *s, int64_t id, int step, struct err *e)
{
    if (!begin(s, e))
        return false;
    return end(s,
               finish(s, ask(s, e, "UPDATE queue SET step = ?1 WHERE id = ?2 AND owner = ?3", "iit", (int64_t)step, id,
                                s->owner), NULL, e), e);
}

static bool set_state(struct store *s, int64_t id, enum store_state state, const char *fault, const char *stage,
                      const char *error, struct err *e)
{
    bool over = ended_states & 1u << state;
    if (!begin(s, e))
        return false;
    bool ok = may_change(s, id, ~0u, e) &&
              finish(s, ask(s, e,
                            "UPDATE queue SET state = ?1, owner = ?2, fault = ?3, stage = ?4, error = ?5, ended = ?6"
                                  " WHERE id = ?7", "itttt" "ii", (int64_t)state, over ? "" : s->owner, fault,
                                  stage, error,
                            over ? (int64_t)time(NULL) : 0, id), NULL, e);
    return end(s, ok, e);
}

bool store_queue_fail(struct store *s, int64_t id, enum err_kind fault, enum stage stage, const char *error,
                      struct err *e)
{
    return set_state(s, id, STORE_FAILED, err_kind_name(fault), stage_name(stage), error, e);
}

bool store_queue_state(struct store *s, int64_t id, enum store_state state, struct err *e)
{
    bool ok = set_state(s, id, state, "", "", "", e);
    if (ok && state == STORE_DONE)
        remove_latent(s, id);
    return ok;
}

/* The last picture ends the job. */
static bool one_made(struct store *s, int64_t job, struct err *e)
{
    return finish(s, ask(s, e, "UPDATE queue SET made = made + 1, step = 0 WHERE id = ?1", "i", job), NULL, e) &&
           finish(s, ask(s, e, "UPDATE queue SET state = ?1, owner = '', ended = ?2 WHERE id = ?3 AND made >= pictures",
                         "iii", (int64_t)STORE_DONE, (int64_t)time(NULL), job), NULL, e);
}

bool store_queue_made(struct store *s, int64_t id, struct err *e)
{
    return begin(s, e) && end(s, one_made(s, id, e), e);
}

/* --- the history ------------------------------------------------------------------- */

void store_picture_free(struct store_picture *p)
{
    free(p->path);
    free(p->prompt);
    free(p->negative);
    free(p->model);
    free(p->preset);
    free(p->record);
    *p = (struct store_picture){ 0 };
}

void store_page_free(struct store_page *p)
{
    for (int i = 0; i < p->count; i++)
        store_picture_free(&p->at[i]);
    free(p->at);
    *p = (struct store_page){ 0 };
}

/* As JPEG, malloc'd. */
static unsigned char *make_thumbnail(const struct image *im, size_t *bytes, struct err *e)
{
    int side = im->width > im->height ? im->width : im->height,
        to = side < STORE_THUMBNAIL_PX ? side : STORE_THUMBNAIL_PX;
    int width = (im->width * to + side / 2) / side, height = (im->height * to + side / 2) / side;
    struct image *small = image_resize(im, width ? width : 1, height ? height : 1, e);
    unsigned char *jpeg = small ? image_jpeg(small, JPEG_QUALITY, bytes, e) : NULL;
    image_free(small);
    return jpeg;
}

/* Seeds above 2^63 - 1 are texts there. */
static uint64_t seed_of(const json_t *record)
{
    const json_t *seed = json_object_get(record, "seed");
    return json_is_string(seed) ? strtoull(json_string_value(seed), NULL, 10) : (uint64_t)json_integer_value(seed);
}

static const char *word(const json_t *record, const char *key)
{
    const char *text = json_string_value(json_object_get(record, key));
    return text ? text : "";
}

/* Row and thumbnail, between begin and end. */
static bool put_picture(struct store *s, const struct store_new *n, const char *path, const struct stat *file,
                        int64_t when, int64_t *id, struct err *e)
{
    size_t bytes = 0;
    json_t *record = json_loads(n->record, 0, NULL);
    if (!json_is_object(record)) {
        json_decref(record);
        return err_set(e, ERR_INPUT, "%s: its record is no JSON object", path);
    }
    unsigned char *jpeg = make_thumbnail(n->image, &bytes, e);
    bool ok = jpeg &&
              finish(s, ask(s, e,
                            "INSERT INTO history(path, bytes, changed, prompt, negative, model, preset, record, "
                            "seed, width, height, time, seconds, job) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, "
                            "?11, ?12, ?13, ?14) ON CONFLICT(path) WHERE trashed = 0 DO UPDATE SET bytes = ?2, "
                            "changed = ?3, prompt = ?4, negative = ?5, model = ?6, preset = ?7, record = ?8, "
                            "seed = ?9, width = ?10, height = ?11, time = ?12, seconds = ?13, job = ?14, "
                            "mark = 0 RETURNING id", "biittttt" "iiii" "di", path,
                            (int64_t)file->st_size, (int64_t)file->st_mtim.tv_sec * 1000000000 + file->st_mtim.tv_nsec,
                            word(record, "prompt"), word(record, "negative"), word(record, "model"), n->preset,
                            n->record,
                            (int64_t)seed_of(record), (int64_t)n->image->width, (int64_t)n->image->height, when,
                            n->seconds, n->job), id, e);
    sqlite3_stmt *q = ok ? ask(s, e, "INSERT OR REPLACE INTO thumbnail(id, jpeg) VALUES(?1, ?2)", "i", *id) : NULL;
    if (q && sqlite3_bind_blob64(q, 2, jpeg, bytes, SQLITE_STATIC) != SQLITE_OK) {
        ok = wrong(s, e);
        sqlite3_finalize(q);
        q = NULL;
    }
    ok = ok && finish(s, q, NULL, e);
    free(jpeg);
    json_decref(record);
    return ok;
}

bool store_history_add(struct store *s, const struct store_new *n, int64_t *id, struct err *e)
{
    struct stat file;
    int64_t own;
    char *path = realpath(n->path, NULL);
    bool ok = path && stat(path, &file) == 0 ? true : err_errno(e, errno, "%s", n->path);
    if (ok && (ok = begin(s, e))) {
        ok = put_picture(s, n, path, &file, (int64_t)time(NULL), id ? id : &own, e) &&
             (!n->job || one_made(s, n->job, e));
        ok = end(s, ok, e);
    }
    free(path);
    return ok;
}

bool store_history_keep(struct store *s, const struct job *j, const struct event *done, const char *model,
                        const char *preset, int64_t job, struct err *e)
{
    struct record record;
    if (!record_make(&record, j, done->index, model, j->steps, e))
        return false;
    struct store_new n = { done->text, record.json, done->image, preset, done->seconds, job };
    bool ok = store_history_add(s, &n, NULL, e);
    record_free(&record);
    return ok;
}

/* "dir/.sluice-trash/ID-name", malloc'd; NULL: out of memory. The number: two pictures of one name may be there. */
static char *trash_path(const char *path, int64_t id)
{
    char *to = NULL;
    const char *slash = strrchr(path, '/');
    size_t dir = slash ? (size_t)(slash - path) + 1 : 0;
    return asprintf(&to, "%.*s%s/%lld-%s", (int)dir, path, trash_folder, (long long)id, path + dir) < 0 ? NULL : to;
}

#define PICTURE_COLUMNS "h.id, h.path, h.prompt, h.negative, h.model, h.preset, h.record, h.seed, h.width, h.height," \
                        " h.time, h.seconds, h.mark, h.trashed"

static bool read_picture(sqlite3_stmt *q, struct store_picture *p)
{
    bool ok = true;
    *p = (struct store_picture){
        .id = sqlite3_column_int64(q, 0), .path = text_of(q, 1, &ok), .prompt = text_of(q, 2, &ok),
        .negative = text_of(q, 3, &ok), .model = text_of(q, 4, &ok), .preset = text_of(q, 5, &ok),
        .record = text_of(q, 6, &ok), .seed = (uint64_t)sqlite3_column_int64(q, 7), .width = sqlite3_column_int(q, 8),
        .height = sqlite3_column_int(q, 9), .time = sqlite3_column_int64(q, 10),
        .seconds = sqlite3_column_double(q, 11),
        .mark = sqlite3_column_int(q, 12), .trashed = sqlite3_column_int(q, 13),
    };
    char *there = ok && p->trashed ? trash_path(p->path, p->id) : NULL;
    if (there && file_exists(there)) {
        free(p->path);
        p->path = there;
    } else {
        ok = ok && (!p->trashed || there);
        free(there);
    }
    return ok;
}

/* Every word in quotes, so that nothing in it is syntax, and a star for the rest of it. malloc'd. */
static char *match_of(const char *search)
{
    /* At most every byte twice, and four more for each word, of which there is one every other byte. */
    char *match = malloc(4 * strlen(search) + 8), *to = match;
    while (match && *search) {
        size_t n = strcspn(search, " \t\r\n");
        if (n)
            *to++ = '"';
        for (size_t i = 0; i < n; i++) {
            if (search[i] == '"')
                *to++ = '"';
            *to++ = search[i];
        }
        if (n)
            to = stpcpy(to, "\"* ");
        search += n + (search[n] != '\0');
    }
    if (match)
        *to = '\0';
    return match;
}

static void read_page(struct store *s, sqlite3_stmt *q, struct store_page *page, struct err *e)
{
    while (q && row(s, q, e)) {
        struct store_picture *p = one_more(&page->at, &page->count, sizeof *p);
        if (!p || !read_picture(q, p)) {
            no_memory(s, e);
            break;
        }
    }
    sqlite3_finalize(q);
}

static void list_all(struct store *s, const struct store_query *query, struct store_page *page, struct err *e)
{
    int64_t trash = query->trash, limit = query->limit ? query->limit : -1, offset = query->offset;
    finish(s, ask(s, e, "SELECT count(*) FROM history WHERE trashed = ?1", "i", trash), &page->total, e);
    read_page(s, ask(s, e, "SELECT " PICTURE_COLUMNS " FROM history h WHERE trashed = ?1 ORDER BY time DESC, id DESC"
                           " LIMIT ?2 OFFSET ?3", "iii", trash, limit, offset), page, e);
}

/* What is found is counted and sorted by number and time alone; only the page's rows are read. The join is
 * CROSS, that is in this order: SQLite would rather ask for the words anew for each picture. */
static void list_found(struct store *s, const struct store_query *query, const char *match, struct store_page *page,
                       struct err *e)
{
    int64_t *id = NULL, from = query->offset;
    int count = 0;
    sqlite3_stmt *q = ask(s, e,
                          "SELECT f.id FROM words w CROSS JOIN history f INDEXED BY history_found ON f.id = w.rowid"
                                " WHERE words MATCH ?1 AND f.trashed = ?2 ORDER BY f.time DESC, f.id DESC", "ti", match,
                          (int64_t)query->trash);
    while (q && row(s, q, e)) {
        int64_t *next = one_more(&id, &count, sizeof *id);
        if (!next) {
            no_memory(s, e);
            break;
        }
        *next = sqlite3_column_int64(q, 0);
    }
    sqlite3_finalize(q);
    page->total = count;
    for (; e->kind == ERR_NONE && from < count && (!query->limit || page->count < query->limit); from++)
        read_page(s, ask(s, e, "SELECT " PICTURE_COLUMNS " FROM history h WHERE id = ?1", "i", id[from]), page, e);
    free(id);
}

bool store_history_list(struct store *s, const struct store_query *query, struct store_page *page, struct err *e)
{
    struct err own = { 0 };
    char *match = match_of(query->search ? query->search : "");
    *page = (struct store_page){ 0 };
    if (!match)
        return no_memory(s, e);
    if (*match)
        list_found(s, query, match, page, &own);
    else
        list_all(s, query, page, &own);
    free(match);
    if (own.kind != ERR_NONE)
        store_page_free(page);
    return pass_on(&own, e);
}

bool store_history_get(struct store *s, int64_t id, struct store_picture *p, struct err *e)
{
    struct err own = { 0 };
    *p = (struct store_picture){ 0 };
    sqlite3_stmt *q = ask(s, &own, "SELECT " PICTURE_COLUMNS " FROM history h WHERE id = ?1", "i", id);
    bool found = q && row(s, q, &own);
    if (!found)
        err_set(&own, ERR_INPUT, "there is no picture %lld", (long long)id);
    else if (!read_picture(q, p))
        no_memory(s, &own);
    sqlite3_finalize(q);
    if (own.kind != ERR_NONE)
        store_picture_free(p);
    return pass_on(&own, e);
}

bool store_history_of_job(struct store *s, int64_t job, struct store_picture *p, struct err *e)
{
    int64_t id = 0;
    *p = (struct store_picture){ 0 };
    return finish(s,
                  ask(s, e, "SELECT ifnull(max(id), 0) FROM history WHERE job = ?1 AND job != 0 AND trashed = 0",
                      "i", job),
                  &id, e) &&
           (id ? store_history_get(s, id, p, e)
            : err_set(e, ERR_INPUT, "no picture of job %lld is in the history", (long long)job));
}

struct image *store_thumbnail(struct store *s, int64_t id, struct err *e)
{
    struct err own = { 0 };
    struct image *im = NULL;
    sqlite3_stmt *q = ask(s, &own, "SELECT jpeg FROM thumbnail WHERE id = ?1", "i", id);
    if (q && row(s, q, &own))
        im = image_read_memory(sqlite3_column_blob(q, 0), (size_t)sqlite3_column_bytes(q, 0), "a thumbnail", &own);
    else
        err_set(&own, ERR_INPUT, "there is no picture %lld", (long long)id);
    sqlite3_finalize(q);
    pass_on(&own, e);
    return im;
}

static bool set_number(struct store *s, int64_t id, const char *sql, int64_t value, struct err *e)
{
    if (!begin(s, e))
        return false;
    bool ok = finish(s, ask(s, e, sql, "ii", value, id), NULL, e) &&
              (sqlite3_changes(s->db) == 1 || err_set(e, ERR_INPUT, "there is no picture %lld", (long long)id));
    return end(s, ok, e);
}

bool store_history_mark(struct store *s, int64_t id, int mark, struct err *e)
{
    return set_number(s, id, "UPDATE history SET mark = ?1 WHERE id = ?2", mark, e);
}

static bool set_trashed(struct store *s, int64_t id, bool trashed, struct err *e)
{
    return set_number(s, id, "UPDATE history SET trashed = ?1 WHERE id = ?2", trashed, e);
}

/* The row first: a kill before the file has moved leaves a picture that is in the trash and in its place, too. */
bool store_history_trash(struct store *s, int64_t id, struct err *e)
{
    struct store_picture p;
    char folder[FILE_PATH_MAX];
    if (!store_history_get(s, id, &p, e))
        return false;
    char *to = p.trashed ? NULL : trash_path(p.path, id);
    bool ok = p.trashed || to || no_memory(s, e);
    ok = ok && set_trashed(s, id, true, e);
    if (ok && to) {
        file_folder(to, folder);
        bool moved = (mkdir(folder, 0700) == 0 || errno == EEXIST) && rename(p.path, to) == 0;
        if (!moved && errno != ENOENT) { /* one that is gone already needs no moving */
            err_errno(e, errno, "%s cannot be moved to %s", p.path, to);
            ok = false;
            set_trashed(s, id, false, NULL);
        }
    }
    free(to);
    store_picture_free(&p);
    return ok;
}

/* The file first, for the same reason. */
bool store_history_restore(struct store *s, int64_t id, struct err *e)
{
    struct store_picture p;
    if (!store_history_get(s, id, &p, e))
        return false;
    bool ok = true;
    sqlite3_stmt *q = ask(s, e, "SELECT path FROM history WHERE id = ?1", "i", id);
    char *home = q && row(s, q, e) ? text_of(q, 0, &ok) : NULL;
    sqlite3_finalize(q);
    ok = home || no_memory(s, e);
    if (ok && p.trashed && strcmp(home, p.path)) {
        if (access(home, F_OK) == 0)
            ok = err_set(e, ERR_INPUT, "%s cannot be put back: there is another picture %s", p.path, home);
        else if (rename(p.path, home) < 0)
            ok = err_errno(e, errno, "%s cannot be put back as %s", p.path, home);
    }
    ok = ok && set_trashed(s, id, false, e);
    free(home);
    store_picture_free(&p);
    return ok;
}

bool store_history_remove(struct store *s, int64_t id, struct err *e)
{
    struct store_picture p;
    if (!store_history_get(s, id, &p, e))
        return false;
    bool ok = !p.trashed || unlink(p.path) == 0 || errno == ENOENT ? true : err_errno(e, errno, "%s", p.path);
    store_picture_free(&p);
    if (!ok || !begin(s, e))
        return false;
    return end(s, finish(s, ask(s, e, "DELETE FROM history WHERE id = ?1", "i", id), NULL, e), e);
}

/* --- looking through a folder --------------------------------------------------------- */

static bool is_png(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcasecmp(name + n - 4, ".png");
}

static bool scan_file(struct store *s, const char *path, struct store_scan *found, struct err *e)
{
    struct stat file;
    int64_t known = 0, id;
    struct err why = { 0 };
    if (stat(path, &file) < 0 || !S_ISREG(file.st_mode))
        return true;
    if (!finish(s, ask(s, e, "SELECT count(*) FROM history WHERE path = ?1 AND bytes = ?2 AND changed = ?3"
                       " AND trashed = 0", "bii", path,
                       (int64_t)file.st_size, (int64_t)file.st_mtim.tv_sec * 1000000000 + file.st_mtim.tv_nsec),
                &known, e))
        return false;
    if (known) {
        found->known++;
        return true;
    }
    char *record = image_read_text(path, "sluice", &why);
    struct image *im = record ? image_read(path, &why) : NULL;
    bool ok = im || why.kind != ERR_MEMORY || pass_on(&why, e);
    if (im) {
        struct store_new n = { .path = path, .record = record, .image = im, .preset = "" };
        ok = begin(s, e) && end(s, put_picture(s, &n, path, &file, (int64_t)file.st_mtim.tv_sec, &id, &why), &why);
        if (!ok && why.kind != ERR_NONE)
            ok = why.kind == ERR_INPUT || pass_on(&why, e);
    }
    found->added += im && why.kind == ERR_NONE;
    found->others += why.kind != ERR_NONE;
    image_free(im);
    free(record);
    return ok;
}

bool store_history_scan(struct store *s, const char *folder, bool (*go_on)(void *user, int seen), void *user,
                        struct store_scan *found, struct err *e)
{
    *found = (struct store_scan){ 0 };
    char *whole = realpath(folder, NULL), path[FILE_PATH_MAX];
    DIR *d = whole ? opendir(whole) : NULL;
    bool ok = d != NULL || err_errno(e, errno, "%s", folder);
    for (const struct dirent *f; ok && (f = readdir(d));) {
        if (!is_png(f->d_name))
            continue;
        ok = file_join(path, whole, f->d_name, e) && scan_file(s, path, found, e);
        if (ok && go_on && !go_on(user, found->added + found->known + found->others))
            ok = err_set(e, ERR_CANCELLED, "%s: not all of it was looked at", folder);
    }
    if (d)
        closedir(d);
    free(whole);
    return ok;
}
