/* test_store.c - queue and history on disk: that what was kept is there again,
 * whatever happens to the program, the file or the disk, and that two programs
 * do not take each other's jobs. SQLite itself is used only to do damage. */
#include "engine/job_text.h"
#include "engine/model.h"
#include "engine/pipeline.h"
#include "engine/record.h"
#include "engine/setting.h"
#include "engine/store.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KILLS = 50 };

static char scratch[FILE_PATH_MAX], db[FILE_PATH_MAX], pictures[FILE_PATH_MAX];

#define CHECK(call) do { \
        struct err wrong_ = { 0 }, *x = &wrong_; \
        if (!(call)) \
            fail_msg("%s: %s", #call, wrong_.text); \
    } while (0)

static struct store *open_store(void)
{
    struct store *s;
    char notice[STORE_NOTICE_BYTES];
    CHECK(store_open(&s, db, notice, x));
    assert_string_equal(notice, "");
    return s;
}

/* A new, empty database. */
static struct store *fresh_store(void)
{
    char dir[FILE_PATH_MAX];
    static int n;
    snprintf(dir, sizeof dir, "%.4000s/state-%d", scratch, n++);
    path_in(dir, "studio.db", db);
    return open_store();
}

static struct job make_job(const char *prompt)
{
    struct job j;
    struct model none = { 0 };
    CHECK(job_init(&j, &none, x));
    CHECK(job_set_string(&j.prompt, prompt, x));
    j.width = j.height = 64;
    j.steps = 8;
    j.seed = 5;
    return j;
}

static int64_t add(struct store *s, const char *prompt)
{
    struct job j = make_job(prompt);
    int64_t id;
    CHECK(store_queue_add(s, &j, "/models/tiny", "", &id, x));
    job_free(&j);
    return id;
}

/* "3 waiting, 1 running*" of the queue in its order, * for another program's. */
static const char *queue_text(struct store *s)
{
    static char text[1024];
    struct store_queue q;
    CHECK(store_queue_list(s, &q, x));
    text[0] = '\0';
    for (int i = 0; i < q.count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s %s%s", i ? ", " : "", q.at[i].prompt,
                 store_state_name(q.at[i].state), q.at[i].foreign ? "*" : "");
    store_queue_free(&q);
    return text;
}

/* --- a job as text ------------------------------------------------------------------- */

static void a_job_comes_back_from_its_text(void **state)
{
    (void)state;
    struct job j = make_job("a \\ back\\nslash\nand a line\xff=x"), back;
    CHECK(job_add_prompt(&j, "", x));
    CHECK(job_add_prompt(&j, "second\n", x));
    CHECK(job_set_string(&j.out, "/tmp/\xe4\n.png", x));
    CHECK(job_set_string(&j.init_latents, "noise", x));
    j.guidance = 3.14159f;
    j.cfg = 0.1f;
    j.seed = UINT64_MAX;
    j.budget = JOB_BUDGET_LEAST;
    j.link = 12345678901.0;
    j.sampler = SAMPLER_DPMPP_2M;
    j.preview = PREVIEW_NONE;
    char *text = job_text(&j, NULL);
    CHECK(job_from_text(&back, text, x));
    for (int i = 0; i < setting_count(); i++)
        if (!setting_same(&j, &back, setting_at(i)))
            fail_msg("%s", setting_at(i)->name);
    assert_int_equal(back.more_count, 2);
    assert_string_equal(back.more[0], "");
    assert_string_equal(back.more[1], "second\n");
    assert_string_equal(back.out, j.out);
    assert_string_equal(back.init_latents, "noise");
    free(text);
    job_free(&back);

    static const struct { const char *text, *fault; } wrong[] = {
        { "steps=8\nshoes=2\n", "line 2: there is no setting \"shoes\"" },
        { "steps\n", "line 1: \"steps\" is not name=value" },
        { "prompt=a\\t\n", "is not name=value" },
        { "prompt=a\\", "is not name=value" },
        { "steps=0\n", "line 1: steps is 0" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e = { 0 };
        assert_false(job_from_text(&back, wrong[i].text, &e));
        assert_non_null(strstr(e.text, wrong[i].fault));
        job_free(&back);
    }
    job_free(&j);
}

/* --- the queue ------------------------------------------------------------------------ */

static void the_queue_is_kept_in_order(void **state)
{
    (void)state;
    struct store *s = fresh_store();
    int64_t id[4];
    struct stat st;
    for (int i = 0; i < 4; i++)
        id[i] = add(s, (const char *[]){ "a", "b", "c", "d" }[i]);
    CHECK(store_queue_reorder(s, (int64_t[]){ id[3], id[1], id[0] }, 3, x)); /* c stays where it is */
    assert_string_equal(queue_text(s), "d waiting, b waiting, c waiting, a waiting");
    CHECK(store_queue_remove(s, id[1], x));
    store_close(s);
    assert_int_equal(stat(db, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    s = open_store();
    assert_string_equal(queue_text(s), "d waiting, c waiting, a waiting");
    struct job j = make_job("changed");
    j.count = 3;
    CHECK(store_queue_replace(s, id[2], &j, "/models/other", "portrait", x));
    job_free(&j);
    struct store_queue q;
    CHECK(store_queue_list(s, &q, x));
    assert_string_equal(q.at[1].prompt, "changed");
    assert_string_equal(q.at[1].model, "/models/other");
    assert_string_equal(q.at[1].preset, "portrait");
    assert_int_equal(q.at[1].pictures, 3);
    assert_true(q.at[1].added > 1700000000);
    store_queue_free(&q);

    int64_t next;
    struct store_job row;
    int removed;
    char latent[FILE_PATH_MAX];
    CHECK(store_queue_next(s, &next, x));
    assert_int_equal(next, id[3]);
    CHECK(store_queue_claim(s, next, &row, &j, x));
    assert_string_equal(row.model, "/models/tiny");
    assert_string_equal(j.prompt, "d");
    assert_int_equal(j.steps, 8);
    assert_null(j.resume);
    assert_non_null(strstr(j.checkpoint, "/latents/"));
    store_job_free(&row);
    job_free(&j);
    CHECK(store_queue_step(s, next, 3, x));
    CHECK(store_queue_fail(s, next, ERR_DISK_FULL, STAGE_VAE, "no reason", x));
    CHECK(store_queue_state(s, id[0], STORE_PAUSED, x));
    assert_string_equal(queue_text(s), "d failed, changed waiting, a paused");
    struct store_queue all;
    CHECK(store_queue_list(s, &all, x));
    assert_int_equal(all.at[0].fault, ERR_DISK_FULL);
    assert_int_equal(all.at[0].stage, STAGE_VAE);
    assert_string_equal(all.at[0].error, "no reason");
    assert_int_equal(all.at[1].fault, ERR_NONE);
    store_queue_free(&all);
    struct job less = make_job("d"); /* other memory, the same pictures: it goes on from where it was */
    less.vae = VAE_BANDS;
    CHECK(store_latent_path(s, next, latent, x));
    fclose(fopen(latent, "w"));
    CHECK(store_queue_amend(s, next, &less, x));
    assert_string_equal(queue_text(s), "d waiting, changed waiting, a paused");
    CHECK(store_queue_claim(s, next, &row, &j, x));
    assert_int_equal(j.vae, VAE_BANDS);
    assert_int_equal(row.fault, ERR_NONE);
    assert_string_equal(j.resume, latent);
    assert_int_equal(row.step, 3);
    assert_false(store_queue_amend(s, next, &less, NULL)); /* not while it runs */
    store_job_free(&row);
    job_free(&j);
    job_free(&less);
    CHECK(store_queue_fail(s, next, ERR_DISK_FULL, STAGE_VAE, "no reason", x));
    CHECK(store_queue_next(s, &next, x));
    assert_int_equal(next, id[2]);
    CHECK(store_queue_clear(s, false, &removed, x));
    assert_int_equal(removed, 1);
    CHECK(store_queue_clear(s, true, &removed, x));
    assert_int_equal(removed, 2);
    CHECK(store_queue_next(s, &next, x));
    assert_int_equal(next, 0);
    assert_true(add(s, "e") > id[3]); /* no number is given twice */
    store_close(s);
}

/* Asserts that it is refused for that reason. */
static void refused(bool ok, const struct err *e, const char *why)
{
    assert_false(ok);
    assert_int_equal(e->kind, ERR_AGAIN);
    if (!strstr(e->text, why))
        fail_msg("%s", e->text);
}

static void a_job_has_one_owner_while_it_lives(void **state)
{
    (void)state;
    struct store *one = fresh_store(), *two = open_store();
    struct err e = { 0 };
    struct store_job row;
    struct job j;
    int64_t id = add(one, "mine"), next;
    CHECK(store_queue_claim(one, id, &row, &j, x));
    store_job_free(&row);
    job_free(&j);
    assert_string_equal(queue_text(one), "mine running");
    assert_string_equal(queue_text(two), "mine running*");
    refused(store_queue_claim(two, id, &row, &j, &e), &e, "is another sluice's (process");
    err_clear(&e);
    refused(store_queue_remove(two, id, &e), &e, "another sluice's");
    err_clear(&e);
    refused(store_queue_remove(one, id, &e), &e, "is running");
    CHECK(store_queue_next(two, &next, x));
    assert_int_equal(next, 0);

    store_close(one); /* it ends in good order, with the job at work */
    assert_string_equal(queue_text(two), "mine interrupted");
    CHECK(store_queue_next(two, &next, x));
    assert_int_equal(next, id);
    store_close(two);

    /* And by a kill: a child takes it and is no more. */
    pid_t child = fork();
    if (child == 0) {
        char notice[STORE_NOTICE_BYTES];
        struct store *s;
        if (store_open(&s, db, notice, NULL) && store_queue_claim(s, id, &row, &j, NULL))
            raise(SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    one = open_store();
    assert_string_equal(queue_text(one), "mine interrupted");
    char path[FILE_PATH_MAX];
    CHECK(store_latent_path(one, id, path, x));
    scratch_write(path, "x", 1);
    CHECK(store_queue_claim(one, id, &row, &j, x));
    assert_string_equal(j.resume, path);
    store_job_free(&row);
    job_free(&j);
    CHECK(store_queue_state(one, id, STORE_DONE, x));
    assert_false(file_exists(path));
    snprintf(path + strlen(path) - 27, 64, "/999.latent.safetensors"); /* of no job */
    store_close(one);
}

/* --- the history ---------------------------------------------------------------------- */

/* A PNG as the pipeline writes it, of one colour. */
static void write_picture(const char *path, const struct job *j, unsigned char shade)
{
    struct record record;
    CHECK(record_make(&record, j, 0, "tiny", j->steps, x));
    struct image *im = image_new(j->width, j->height, NULL);
    memset(im->rgb, shade, (size_t)j->width * (size_t)j->height * 3);
    CHECK(record_write_png(&record, im, path, x));
    image_free(im);
    record_free(&record);
}

static int64_t keep(struct store *s, const char *name, const char *prompt, const char *negative, unsigned char shade,
                    int64_t queue)
{
    char path[FILE_PATH_MAX];
    struct job j = make_job(prompt);
    struct record record;
    int64_t id;
    CHECK(job_set_string(&j.negative, negative, x));
    j.cfg = 2;
    j.width = 240;
    j.height = 120;
    write_picture(path_in(pictures, name, path), &j, shade);
    CHECK(record_make(&record, &j, 0, "tiny", j.steps, x));
    struct image *im = image_read(path, NULL);
    struct store_new n = { path, record.json, im, "portrait", 1.5, queue };
    CHECK(store_history_add(s, &n, &id, x));
    image_free(im);
    record_free(&record);
    job_free(&j);
    return id;
}

/* How many are found, in all. */
static int64_t found(struct store *s, const char *search)
{
    struct store_page page;
    struct store_query q = { .search = search, .limit = 2 };
    CHECK(store_history_list(s, &q, &page, x));
    assert_int_equal(page.count, page.total < 2 ? page.total : 2);
    int64_t total = page.total;
    store_page_free(&page);
    return total;
}

static void the_history_is_found_again(void **state)
{
    (void)state;
    struct store *s = fresh_store();
    struct store_picture p;
    int64_t a = keep(s, "a.png", "A red fox, \"quoted\" jumping", "blurry hands", 200, 0);
    int64_t b = keep(s, "b.png", "Caf\xc3\xa9 in the rain", "", 100, 0);
    int64_t c = keep(s, "c.png", "a foxglove\nby the sea", "", 50, 0);
    store_close(s);
    s = open_store();
    CHECK(store_history_get(s, a, &p, x));
    assert_string_equal(p.prompt, "A red fox, \"quoted\" jumping");
    assert_string_equal(p.negative, "blurry hands");
    assert_string_equal(p.model, "tiny");
    assert_string_equal(p.preset, "portrait");
    assert_int_equal(p.seed, 5);
    assert_int_equal(p.width, 240);
    assert_true(p.seconds == 1.5 && !p.trashed && p.mark == 0);
    assert_non_null(strstr(p.record, "\"sampler\":\"euler\""));
    store_picture_free(&p);
    struct image *im = store_thumbnail(s, a, NULL);
    assert_int_equal(im->width, STORE_THUMBNAIL_PX);
    assert_int_equal(im->height, STORE_THUMBNAIL_PX / 2);
    assert_in_range(im->rgb[3000], 198, 202);
    image_free(im);

    static const struct { const char *search; int64_t count; } cases[] = {
        { "", 3 }, { "  ", 3 }, { "fox", 2 }, { "FOX red", 1 }, { "fo", 2 }, { "f", 2 }, { "cafe", 1 },
        { "caf\xc3\xa9 rai", 1 }, { "blurry", 1 }, { "portr", 3 }, { "tiny sea", 1 }, { "nothing", 0 },
        { "\"", 0 }, { "\"quoted", 1 }, { "fox OR rain", 0 }, { "NOT fox", 0 }, { "prompt:fox", 0 }, { "fox*", 2 },
        { "(((", 0 },
        { "red AND", 0 }, { "^a", 2 }, { "fox -", 2 }, { "NEAR(a", 0 }, { "{a b}:c", 0 }, { "\xff\xfe", 0 },
        { "'; DROP", 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (found(s, cases[i].search) != cases[i].count)
            fail_msg("\"%s\" finds %d", cases[i].search, (int)found(s, cases[i].search));

    /* Newest first, and a page at a time. */
    struct store_page page;
    CHECK(store_history_list(s, &(struct store_query){ .limit = 2, .offset = 1 }, &page, x));
    assert_int_equal(page.total, 3);
    assert_int_equal(page.count, 2);
    assert_int_equal(page.at[0].id, b);
    assert_int_equal(page.at[1].id, a);
    store_page_free(&page);

    CHECK(store_history_mark(s, c, 4, x));
    CHECK(store_history_get(s, c, &p, x));
    assert_int_equal(p.mark, 4);
    store_picture_free(&p);
    struct err e = { 0 };
    assert_false(store_history_mark(s, 999, 1, &e));
    assert_string_equal(e.text, "there is no picture 999");

    /* Another picture of the same name takes its place. */
    assert_int_equal(keep(s, "c.png", "something else", "", 1, 0), c);
    assert_int_equal(found(s, "foxglove"), 0);
    assert_int_equal(found(s, "else"), 1);
    CHECK(store_history_get(s, c, &p, x));
    assert_int_equal(p.mark, 0);
    store_picture_free(&p);
    store_close(s);
}

static void the_trash_gives_back(void **state)
{
    (void)state;
    struct store *s = fresh_store();
    struct store_picture p;
    struct store_page page;
    struct err e = { 0 };
    char path[FILE_PATH_MAX];
    struct store_picture of;
    struct err none = { 0 };
    int64_t id = keep(s, "t.png", "to be thrown away", "", 9, 77);
    CHECK(store_history_of_job(s, 77, &of, x));
    assert_int_equal(of.id, id);
    store_picture_free(&of);
    path_in(pictures, "t.png", path);
    CHECK(store_history_trash(s, id, x));
    CHECK(store_history_trash(s, id, x)); /* it is there already */
    assert_false(file_exists(path));
    assert_int_equal(found(s, "thrown"), 0);
    CHECK(store_history_list(s, &(struct store_query){ .trash = true, .search = "away" }, &page, x));
    assert_int_equal(page.count, 1);
    assert_true(page.at[0].trashed && file_exists(page.at[0].path));
    store_page_free(&page);

    /* Another one has come in its place: neither is lost. */
    assert_false(store_history_of_job(s, 77, &of, &none)); /* nor what is in the trash */
    assert_non_null(strstr(none.text, "no picture of job 77"));
    assert_false(store_history_of_job(s, 0, &of, NULL));
    int64_t other = keep(s, "t.png", "the other", "", 9, 0);
    assert_int_not_equal(other, id);
    assert_false(store_history_restore(s, id, &e));
    assert_non_null(strstr(e.text, "there is another picture"));
    CHECK(store_history_trash(s, other, x));
    CHECK(store_history_restore(s, id, x));
    CHECK(store_history_get(s, id, &p, x));
    assert_string_equal(p.path, path);
    assert_true(file_exists(path) && !p.trashed);
    store_picture_free(&p);

    /* Forgotten from the trash, the file goes; from elsewhere, it stays. */
    CHECK(store_history_get(s, other, &p, x));
    CHECK(store_history_remove(s, other, x));
    assert_false(file_exists(p.path));
    store_picture_free(&p);
    CHECK(store_history_remove(s, id, x));
    assert_true(file_exists(path));
    assert_int_equal(found(s, ""), 0);
    store_close(s);
}

static bool two_only(void *user, int seen)
{
    (void)user;
    return seen < 2;
}

static void a_folder_is_looked_through(void **state)
{
    (void)state;
    struct store *s = fresh_store();
    struct store_scan n;
    struct err e = { 0 };
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX], name[32];
    struct job j = make_job("found in a folder");
    mkdir(path_in(scratch, "folder", dir), 0700);
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "%d.png", i);
        j.seed = UINT64_MAX - (uint64_t)i;
        write_picture(path_in(dir, name, path), &j, 10);
    }
    struct image *plain = image_new(4, 4, NULL);
    CHECK(image_write_png(plain, path_in(dir, "plain.png", path), NULL, 0, x));
    CHECK(image_write_png(plain, path_in(dir, "lies.png", path), &(struct image_text){ "sluice", "no JSON" }, 1, x));
    image_free(plain);
    scratch_write(path_in(dir, "damaged.PNG", path), "\x89PNG\r\n\x1a\n123", 11);
    scratch_write(path_in(dir, "text.txt", path), "x", 1);
    assert_false(store_history_scan(s, dir, two_only, NULL, &n, &e));
    assert_int_equal(e.kind, ERR_CANCELLED);
    CHECK(store_history_scan(s, dir, NULL, NULL, &n, x));
    CHECK(store_history_scan(s, dir, NULL, NULL, &n, x));
    assert_int_equal(n.added, 0);
    assert_int_equal(n.known, 5);
    assert_int_equal(n.others, 3);
    assert_int_equal(found(s, "folder"), 5);
    struct store_page page;
    CHECK(store_history_list(s, &(struct store_query){ 0 }, &page, x));
    bool seen = false;
    for (int i = 0; i < page.count; i++)
        seen |= page.at[i].seed == UINT64_MAX;
    assert_true(seen);
    store_page_free(&page);
    /* One that has changed is read again. */
    CHECK(job_set_string(&j.prompt, "changed since", x));
    write_picture(path_in(dir, "3.png", path), &j, 20);
    CHECK(store_history_scan(s, dir, NULL, NULL, &n, x));
    assert_int_equal(n.added, 1);
    assert_int_equal(found(s, ""), 5);
    assert_int_equal(found(s, "since"), 1);
    err_clear(&e);
    assert_false(store_history_scan(s, "/nowhere", NULL, NULL, &n, &e));
    job_free(&j);
    store_close(s);
}

/* --- what goes wrong ------------------------------------------------------------------- */

static void with_sqlite(const char *sql)
{
    sqlite3 *raw;
    assert_int_equal(sqlite3_open(db, &raw), SQLITE_OK);
    assert_int_equal(sqlite3_exec(raw, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(raw);
}

/* Opens it and returns what it says; the store is empty and works. */
static const char *set_aside(void)
{
    static char notice[STORE_NOTICE_BYTES];
    struct store *s;
    CHECK(store_open(&s, db, notice, x));
    assert_string_equal(queue_text(s), "");
    add(s, "works");
    store_close(s);
    return notice;
}

static void a_damaged_database_is_set_aside(void **state)
{
    (void)state;
    char path[FILE_PATH_MAX + 32];
    struct store *s = fresh_store();
    for (int i = 0; i < 200; i++)
        add(s, "a job that is long enough to fill some pages of the file with something");
    store_close(s);

    /* In the middle of the queue's pages. */
    int fd = open(db, O_RDWR);
    struct stat st;
    fstat(fd, &st);
    char junk[4096];
    memset(junk, 0xa5, sizeof junk);
    for (off_t at = 8 * 4096; at < st.st_size - 4096; at += 4096)
        assert_int_equal(pwrite(fd, junk, sizeof junk, at), sizeof junk);
    close(fd);
    assert_non_null(strstr(set_aside(), "damaged. It is now"));
    snprintf(path, sizeof path, "%s.damaged-1", db);
    assert_true(file_exists(path));

    /* No database at all. */
    scratch_write(db, junk, sizeof junk);
    assert_non_null(strstr(set_aside(), ".damaged-2"));
    /* Another program's. */
    unlink(db);
    with_sqlite("CREATE TABLE theirs(x)");
    assert_non_null(strstr(set_aside(), "another program's database. It is now"));
    /* Cut short. */
    assert_int_equal(truncate(db, 3 * 4096), 0);
    assert_non_null(strstr(set_aside(), ".damaged-4"));
    /* An empty file is a new one. */
    assert_int_equal(truncate(db, 0), 0);
    assert_string_equal(set_aside(), "");

    /* Found on the way: said then, and set aside the next time. */
    s = open_store();
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "d%d.png", i);
        keep(s, name, "some words", "", 1, 0);
    }
    store_close(s);
    with_sqlite("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA writable_schema = 1;"
                "UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'thumbnail'");
    struct err e = { 0 };
    char notice[STORE_NOTICE_BYTES];
    CHECK(store_open(&s, db, notice, x));
    assert_null(store_thumbnail(s, 1, &e));
    store_close(s);
    if (strstr(e.text, "the next start sets it aside")) /* what SQLite makes of it depends on its version */
        assert_non_null(strstr(set_aside(), ".damaged-5"));
}

static void others_are_waited_for_and_newer_ones_left_alone(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct store *s = fresh_store();
    struct job j = make_job("locked out");
    int64_t id;
    char notice[STORE_NOTICE_BYTES];
    add(s, "before");
    sqlite3 *raw;
    sqlite3_open(db, &raw);
    sqlite3_exec(raw, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    assert_false(store_queue_add(s, &j, "", "", &id, &e));
    assert_non_null(strstr(e.text, "another program has it locked"));
    assert_string_equal(queue_text(s), "before waiting"); /* it can be read meanwhile */
    sqlite3_exec(raw, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(raw);
    CHECK(store_queue_add(s, &j, "", "", &id, x));
    store_close(s);
    job_free(&j);

    with_sqlite("PRAGMA user_version = 99");
    err_clear(&e);
    assert_false(store_open(&s, db, notice, &e));
    assert_non_null(strstr(e.text, "a newer sluice has made it"));
    with_sqlite("PRAGMA user_version = 2");
    s = open_store();
    assert_string_equal(queue_text(s), "before waiting, locked out waiting");
    store_close(s);

    /* What the first version kept: of a failure no kind. */
    with_sqlite("ALTER TABLE queue DROP COLUMN fault; ALTER TABLE queue DROP COLUMN stage; PRAGMA user_version = 1;"
                "DROP INDEX history_job; ALTER TABLE history DROP COLUMN job;"
                "UPDATE queue SET state = 5, error = 'why' WHERE prompt = 'before'");
    s = open_store();
    assert_string_equal(queue_text(s), "before failed, locked out waiting");
    struct store_queue old;
    CHECK(store_queue_list(s, &old, x));
    assert_int_equal(old.at[0].fault, ERR_NONE);
    assert_int_equal(old.at[0].stage, STAGE_LOAD);
    assert_string_equal(old.at[0].error, "why");
    store_queue_free(&old);
    store_close(s);

    err_clear(&e);
    assert_false(store_open(&s, "/proc/nothing/studio.db", notice, &e));
    assert_null(s);
}

static void one_that_cannot_be_written_is_left_alone(void **state)
{
    (void)state;
    enum { NOBODY = 65534 };
    struct err e = { 0 };
    char notice[STORE_NOTICE_BYTES], dir[FILE_PATH_MAX];
    struct store *s = fresh_store();
    add(s, "left alone");
    store_close(s);
    file_folder(db, dir);
    chmod(db, 0444);
    chmod(dir, 0555);
    chmod(scratch, 0755);
    bool root = geteuid() == 0; /* permissions are nothing to root */
    assert_true(!root || seteuid(NOBODY) == 0);
    bool opened = store_open(&s, db, notice, &e);
    assert_true(!root || seteuid(0) == 0);
    assert_false(opened);
    assert_non_null(strstr(e.text, "studio.db cannot be written"));
    chmod(dir, 0700);
    chmod(db, 0600);
    s = open_store();
    assert_string_equal(queue_text(s), "left alone waiting");
    store_close(s);
}

static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    struct store *s = fresh_store();
    struct rlimit old, small;
    struct err e = { 0 };
    int kept = 0;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 400 * 1024;
    setrlimit(RLIMIT_FSIZE, &small);
    struct job j = make_job("a job of a certain length, so that the file grows as it should");
    int64_t id;
    while (store_queue_add(s, &j, "/models/tiny", "", &id, &e) && kept < 5000)
        kept++;
    setrlimit(RLIMIT_FSIZE, &old);
    assert_in_range(kept, 10, 4999);
    assert_non_null(strstr(e.text, "is the disk full?"));
    CHECK(store_queue_add(s, &j, "/models/tiny", "", &id, x)); /* there is room again */
    store_close(s);
    s = open_store();
    struct store_queue q;
    CHECK(store_queue_list(s, &q, x));
    assert_int_equal(q.count, kept + 1);
    store_queue_free(&q);
    job_free(&j);
    store_close(s);
}

/* --- kills ------------------------------------------------------------------------------ */

enum { JOBS = 40, KILL_MS_MAX = 250 };

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* `sluice queue run` on the database of this test; one computing thread. */
static pid_t run_queue(void)
{
    char binary[FILE_PATH_MAX], state_home[FILE_PATH_MAX];
    const char *build = getenv("SLUICE_BUILD");
    path_in(build ? build : "build", "sluice", binary);
    path_in(scratch, "killed", state_home);
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        dup2(null, 2);
        setenv("XDG_STATE_HOME", state_home, 1);
        setenv("OMP_NUM_THREADS", "1", 1);
        execl(binary, "sluice", "queue", "run", (char *)NULL);
        _exit(127);
    }
    return child;
}

/* What has to be so at any moment. Returns how many pictures there are. */
static int everything_is_there(const int64_t *id, int *interrupted)
{
    struct store *s = open_store();
    struct store_queue q;
    struct store_page page;
    int made = 0, running = 0;
    CHECK(store_queue_list(s, &q, x));
    assert_int_equal(q.count, JOBS);
    for (int i = 0; i < JOBS; i++) {
        const struct store_job *j = &q.at[i];
        struct store_job row;
        struct job job;
        struct record record;
        struct checkpoint c;
        assert_int_equal(j->id, id[i]);
        assert_true(j->made <= j->pictures && (j->state == STORE_DONE) == (j->made == j->pictures));
        made += j->made;
        if (j->state != STORE_INTERRUPTED) {
            assert_true(j->state == STORE_DONE || (j->state == STORE_WAITING && j->made == 0));
            continue;
        }
        running++;
        int64_t next;
        CHECK(store_queue_next(s, &next, x));
        assert_int_equal(next, j->id); /* it is offered, with what was kept of it */
        CHECK(store_queue_claim(s, next, &row, &job, x));
        assert_int_equal(job.first, j->made);
        if (job.resume) {
            CHECK(record_read_checkpoint(&record, &c, job.resume, x));
            assert_true(c.index >= job.first && c.step > 0);
            checkpoint_free(&c);
            record_free(&record);
            ++*interrupted;
        }
        store_job_free(&row);
        job_free(&job);
    }
    assert_true(running <= 1);
    CHECK(store_history_list(s, &(struct store_query){ 0 }, &page, x));
    assert_int_equal(page.total, made);
    for (int i = 0; i < page.count; i++) {
        struct image *im = NULL;
        CHECK((im = image_read(page.at[i].path, x)));
        assert_int_equal(im->width, page.at[i].width);
        image_free(im);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(page.at[k].path, page.at[i].path);
    }
    store_page_free(&page);
    store_queue_free(&q);
    store_close(s);
    return made;
}

static void done(void *user, struct event *ev)
{
    struct image **im = user;
    if (ev->kind == EVENT_DONE) {
        *im = ev->image;
        ev->image = NULL;
    }
    event_clear(ev);
}

/* The pictures are those of a job that nobody killed. */
static void pixels_are_those_of_an_undisturbed_run(const char *folder)
{
    static struct model model;
    struct pipeline *p;
    struct store *s = open_store();
    struct store_page page;
    char path[FILE_PATH_MAX];
    CHECK(model_open(&model, folder, true, x));
    CHECK(pipeline_new(&p, &model, x));
    CHECK(store_history_list(s, &(struct store_query){ 0 }, &page, x));
    for (int i = 0; i < page.count; i += 5) {
        struct image *whole = NULL, *kept = image_read(page.at[i].path, NULL);
        struct pipeline_hooks hooks = { .emit = done, .user = &whole };
        struct job j = make_job(page.at[i].prompt);
        j.width = page.at[i].width;
        j.height = page.at[i].height;
        j.seed = page.at[i].seed;
        j.embedding_cache = false;
        j.threads = 1;
        CHECK(job_set_string(&j.out, path_in(scratch, "undisturbed.png", path), x));
        CHECK(pipeline_run(p, &j, 1, &hooks, x));
        assert_memory_equal(kept->rgb, whole->rgb, (size_t)j.width * (size_t)j.height * 3);
        image_free(whole);
        image_free(kept);
        job_free(&j);
    }
    store_page_free(&page);
    store_close(s);
    pipeline_free(p);
}

static void a_kill_at_any_moment_loses_nothing(void **state)
{
    (void)state;
    const char *given = getenv("SLUICE_SEED");
    unsigned short x48[3] = { 0x330e, 0, 0 };
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    char folder[FILE_PATH_MAX], path[FILE_PATH_MAX], name[32];
    int64_t id[JOBS];
    int made = 0, resumable = 0, pictures_wanted = 0, status;
    print_message("seed %u (SLUICE_SEED)\n", seed);
    memcpy(&x48[1], &seed, sizeof seed);
    golden_make("dev96", path_in(scratch, "dev96", folder));
    path_in(scratch, "killed/sluice/studio.db", db);
    struct store *s = open_store();
    for (int i = 0; i < JOBS; i++) {
        struct job j = make_job("killed");
        snprintf(name, sizeof name, "k%d.png", i);
        CHECK(job_set_string(&j.out, path_in(pictures, name, path), x));
        j.seed = (uint64_t)(10 * i);
        j.count = 1 + i % 2;
        j.embedding_cache = false;
        j.threads = 1;
        pictures_wanted += j.count;
        CHECK(store_queue_add(s, &j, folder, "", &id[i], x));
        job_free(&j);
    }
    store_close(s);

    double limit = 0;
    for (int k = 0; k < KILLS; k++) {
        double began = now_ms();
        pid_t child = run_queue();
        /* The first one shows how long a start takes: it is killed after its first pictures. */
        if (k == 0) {
            while (limit == 0) {
                char trace[FILE_PATH_MAX];
                nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
                if (file_exists(path_in(pictures, "k1.png", trace)))
                    limit = now_ms() - began;
                assert_int_equal(waitpid(child, &status, WNOHANG), 0);
            }
            limit = 1.5 * limit < KILL_MS_MAX ? 1.5 * limit : KILL_MS_MAX;
        } else {
            long us = (long)(erand48(x48) * limit * 1000);
            nanosleep(&(struct timespec){ us / 1000000, us % 1000000 * 1000 }, NULL);
        }
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        int before = made;
        made = everything_is_there(id, &resumable);
        assert_true(made >= before);
    }
    print_message("%d kills: %d of %d pictures were made, %d times one could go on from its latent\n", KILLS, made,
                  pictures_wanted, resumable);
    pid_t child = run_queue();
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(everything_is_there(id, &resumable), pictures_wanted);
    pixels_are_those_of_an_undisturbed_run(folder);
}

static int begin(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    scratch_make_cache(scratch);
    mkdir(path_in(scratch, "pictures", pictures), 0700);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_comes_back_from_its_text),
        cmocka_unit_test(the_queue_is_kept_in_order),
        cmocka_unit_test(a_job_has_one_owner_while_it_lives),
        cmocka_unit_test(the_history_is_found_again),
        cmocka_unit_test(the_trash_gives_back),
        cmocka_unit_test(a_folder_is_looked_through),
        cmocka_unit_test(a_damaged_database_is_set_aside),
        cmocka_unit_test(others_are_waited_for_and_newer_ones_left_alone),
        cmocka_unit_test(one_that_cannot_be_written_is_left_alone),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(a_kill_at_any_moment_loses_nothing),
    };
    return cmocka_run_group_tests_name("store", tests, begin, end);
}
