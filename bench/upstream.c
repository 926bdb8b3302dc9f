/*
 * An upstream that costs next to nothing: it answers like OpenAI's Chat Completions, from one thread on epoll.
 *
 *   upstream [-p PORT] [-n TOKENS] [-i MICROSECONDS] [-s] [-c CERTIFICATE -k KEY]
 *
 *   -p  port on 127.0.0.1; 0 (the default) takes a free one. Either way it is printed: "port 40123"
 *   -n  tokens of an answer
 *   -i  pause between two tokens, each then in a write of its own, on an absolute schedule. A random phase keeps
 *       streams from ticking together. 0: the whole answer in one write
 *   -s  stamp tokens with CLOCK_MONOTONIC in nanoseconds, which is one clock for all processes of a machine:
 *         " tok=<now>"            every token but the first of an answer
 *         " tok=<now>+<waited>"   the first: `waited` is the time since the request was read, so that a client
 *                                 knows how much of its wait was the model's
 *       without -s the tokens are " tok0", " tok1", …
 *   -c  serve TLS with this certificate (PEM); needs a build with -DWITH_TLS
 *
 * POST anything: a stream when the body says "stream": true, else one chat.completion. Where the body holds the word
 * "hurry", the pause is 5 ms at most: to warm up a proxy need not take as long as the slowest answers.
 * GET /stats: counters as JSON, of which `closed_early` counts answers whose reader left before their end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef void SSL;
#endif

#define SECOND 1000000000LL
#define MILLISECOND 1000000LL
#define EVENTS 1024
#define HEAD_LIMIT (1 << 20)
#define HURRIED (5 * MILLISECOND)

typedef struct {
    char *bytes;
    size_t length, capacity;
} buffer;

typedef struct {
    int fd;
    SSL *tls;
    int busy;             /* an answer is under way; a next request waits in `in` */
    int wants_usage;      /* stream_options.include_usage */
    int sent;             /* tokens of this answer so far; `token_count + 1` once its end is queued */
    int heap_index;       /* place among those waiting for their next token, or -1 */
    int waiting_to_write; /* epoll watches for room in the socket */
    buffer in, out;
    size_t written; /* how much of `out` the socket has taken */
    int64_t due, started;
    int64_t pause; /* between two tokens of this answer */
} connection;

static int token_count = 100, stamped;
static int poller, listener, timer; /* epoll tells the last two by their addresses */
static int64_t interval;
static int64_t armed_for = -1;

static connection **heap; /* binary heap by `due`: who gets a token next */
static int heap_length, heap_capacity;

static struct {
    uint64_t connections, requests, completed, closed_early, tokens;
    int open, active, most_active;
} stats;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t random_number(void) { /* xorshift64: the same phases in every run */
    static uint64_t state = 88172645463325252ULL;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/* ---- who is due next ------------------------------------------------------------------------------------ */

static void heap_swap(int a, int b) {
    connection *other = heap[a];
    heap[a] = heap[b];
    heap[b] = other;
    heap[a]->heap_index = a;
    heap[b]->heap_index = b;
}

static void heap_up(int i) {
    for (; i && heap[(i - 1) / 2]->due > heap[i]->due; i = (i - 1) / 2) heap_swap(i, (i - 1) / 2);
}

static void heap_down(int i) {
    for (;;) {
        int left = 2 * i + 1, least = i;
        if (left < heap_length && heap[left]->due < heap[least]->due) least = left;
        if (left + 1 < heap_length && heap[left + 1]->due < heap[least]->due) least = left + 1;
        if (least == i) return;
        heap_swap(i, least);
        i = least;
    }
}

static void heap_add(connection *c) {
    if (heap_length == heap_capacity) {
        heap_capacity = heap_capacity ? heap_capacity * 2 : 1024;
        heap = realloc(heap, heap_capacity * sizeof *heap);
    }
    heap[heap_length] = c;
    c->heap_index = heap_length++;
    heap_up(c->heap_index);
}

static void heap_remove(connection *c) {
    int i = c->heap_index;
    if (i < 0) return;
    heap_swap(i, --heap_length);
    c->heap_index = -1;
    if (i < heap_length) {
        heap_up(i);
        heap_down(i);
    }
}

static void arm_timer(void) {
    int64_t due = heap_length ? heap[0]->due : 0; /* 0 disarms */
    if (due == armed_for) return;
    struct itimerspec when = {.it_value = {due / SECOND, due % SECOND}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
    armed_for = due;
}

/* ---- the bytes of an answer ----------------------------------------------------------------------------- */

static void append(buffer *b, const char *bytes, size_t length) {
    if (b->length + length > b->capacity) {
        b->capacity = (b->length + length) * 2;
        b->bytes = realloc(b->bytes, b->capacity);
    }
    memcpy(b->bytes + b->length, bytes, length);
    b->length += length;
}

static void append_chunk(buffer *b, const char *bytes, size_t length) {
    char size[20];
    append(b, size, snprintf(size, sizeof size, "%zx\r\n", length));
    append(b, bytes, length);
    append(b, "\r\n", 2);
}

static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    "x-request-id: req_1\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";

#define IDENTITY "\"created\":1700000000,\"model\":\"gpt-4o-mini\","
#define CHUNK "data: {\"id\":\"chatcmpl-x\",\"object\":\"chat.completion.chunk\"," IDENTITY

static void append_choice(connection *c, const char *delta, const char *finish_reason) {
    char event[512];
    int length = snprintf(event, sizeof event,
                          CHUNK "\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]%s}\n\n", delta,
                          finish_reason, c->wants_usage ? ",\"usage\":null" : "");
    append_chunk(&c->out, event, length);
}

static void append_role(connection *c) { append_choice(c, "\"role\":\"assistant\",\"content\":\"\"", "null"); }

static void append_token(connection *c) {
    char delta[128];
    int64_t t = stamped ? now() : 0;
    if (!stamped)
        snprintf(delta, sizeof delta, "\"content\":\" tok%d\"", c->sent);
    else if (c->sent == 0)
        snprintf(delta, sizeof delta, "\"content\":\" tok=%lld+%lld\"", (long long)t, (long long)(t - c->started));
    else
        snprintf(delta, sizeof delta, "\"content\":\" tok=%lld\"", (long long)t);
    append_choice(c, delta, "null");
    c->sent++;
    stats.tokens++;
}

static void append_end(connection *c) {
    append_choice(c, "", "\"stop\"");
    if (c->wants_usage) {
        char event[512];
        int length = snprintf(event, sizeof event,
                              CHUNK "\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":%d,"
                                    "\"total_tokens\":%d}}\n\n",
                              token_count, token_count + 9);
        append_chunk(&c->out, event, length);
    }
    append_chunk(&c->out, "data: [DONE]\n\n", 14);
    append(&c->out, "0\r\n\r\n", 5);
}

static void append_json(connection *c, const char *body, size_t length) {
    char head[160];
    int head_length = snprintf(head, sizeof head,
                               "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                               "Connection: keep-alive\r\n\r\n",
                               length);
    append(&c->out, head, head_length);
    append(&c->out, body, length);
}

static void append_whole(connection *c) {
    static buffer body; /* the same for every request */
    if (!body.length) {
        char part[256];
        append(&body, part,
               snprintf(part, sizeof part,
                        "{\"id\":\"chatcmpl-x\",\"object\":\"chat.completion\"," IDENTITY
                        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\""));
        for (int k = 0; k < token_count; k++) append(&body, part, snprintf(part, sizeof part, " tok%d", k));
        append(&body, part,
               snprintf(part, sizeof part,
                        "\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,"
                        "\"completion_tokens\":%d,\"total_tokens\":%d}}",
                        token_count, token_count + 9));
    }
    append_json(c, body.bytes, body.length);
    stats.tokens += token_count;
}

static void append_burst(connection *c) {
    static buffer rendered[2]; /* without and with usage; unstamped, so the same every time */
    buffer *whole = &rendered[c->wants_usage];
    if (!whole->length) {
        connection scratch = {.wants_usage = c->wants_usage};
        uint64_t tokens = stats.tokens;
        append_role(&scratch);
        while (scratch.sent < token_count) append_token(&scratch);
        append_end(&scratch);
        *whole = scratch.out;
        stats.tokens = tokens;
    }
    append(&c->out, whole->bytes, whole->length);
    stats.tokens += token_count;
}

/* ---- sockets -------------------------------------------------------------------------------------------- */

#ifdef WITH_TLS
static SSL_CTX *tls_settings;

static ssize_t tls_result(connection *c, int result) {
    if (result > 0) return result;
    int why = SSL_get_error(c->tls, result);
    if (why == SSL_ERROR_ZERO_RETURN) return 0;
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
    return -1;
}
#endif

static ssize_t take(connection *c, char *bytes, size_t room) {
#ifdef WITH_TLS
    ERR_clear_error(); /* an old error would be taken for this call's */
    if (c->tls) return tls_result(c, SSL_read(c->tls, bytes, room));
#endif
    return recv(c->fd, bytes, room, 0);
}

static ssize_t give(connection *c, const char *bytes, size_t length) {
#ifdef WITH_TLS
    ERR_clear_error();
    if (c->tls) return tls_result(c, SSL_write(c->tls, bytes, length));
#endif
    return send(c->fd, bytes, length, MSG_NOSIGNAL);
}

static void wait_to_write(connection *c, int wait) {
    if (c->waiting_to_write == wait) return;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (wait ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    c->waiting_to_write = wait;
}

enum { BROKEN = -1, PENDING = 0, FLUSHED = 1 };

static int flush(connection *c) {
    while (c->written < c->out.length) {
        ssize_t n = give(c, c->out.bytes + c->written, c->out.length - c->written);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            wait_to_write(c, 1);
            return PENDING;
        }
        if (n <= 0) return BROKEN;
        c->written += n;
    }
    c->written = c->out.length = 0;
    wait_to_write(c, 0);
    return FLUSHED;
}

static void close_connection(connection *c) { /* the memory is freed by `bury` */
    if (c->busy) {
        stats.closed_early++;
        stats.active--;
    }
    heap_remove(c);
#ifdef WITH_TLS
    SSL_free(c->tls);
#endif
    close(c->fd);
    c->fd = -1;
    stats.open--;
}

static void bury(connection *c) {
    free(c->in.bytes);
    free(c->out.bytes);
    free(c);
}

/* ---- requests ------------------------------------------------------------------------------------------- */

static void answered(connection *c) {
    c->busy = 0;
    stats.active--;
    stats.completed++;
}

static int says_true(const char *body, size_t length, const char *key) {
    const char *at = body, *end = body + length;
    while ((at = memmem(at, end - at, key, strlen(key)))) {
        at += strlen(key);
        while (at < end && strchr(" \t\r\n:", *at)) at++;
        if (end - at >= 4 && !memcmp(at, "true", 4)) return 1;
    }
    return 0;
}

static int answer_get(connection *c, const char *path) {
    char body[512];
    int length;
    if (!strncmp(path, "/stats", 6))
        length = snprintf(body, sizeof body,
                          "{\"connections\":%llu,\"open\":%d,\"requests\":%llu,\"active\":%d,\"most_active\":%d,"
                          "\"completed\":%llu,\"closed_early\":%llu,\"tokens\":%llu}\n",
                          (unsigned long long)stats.connections, stats.open, (unsigned long long)stats.requests,
                          stats.active, stats.most_active, (unsigned long long)stats.completed,
                          (unsigned long long)stats.closed_early, (unsigned long long)stats.tokens);
    else
        length = snprintf(body, sizeof body,
                          "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-4o-mini\",\"object\":\"model\","
                          "\"created\":1700000000,\"owned_by\":\"bench\"}]}\n");
    append_json(c, body, length);
    return flush(c);
}

static int answer(connection *c, const char *head, const char *body, size_t length) {
    if (!strncmp(head, "GET ", 4)) return answer_get(c, head + 4);
    stats.requests++;
    if (++stats.active > stats.most_active) stats.most_active = stats.active;
    c->busy = 1;
    c->sent = 0;
    c->started = now();
    c->wants_usage = says_true(body, length, "\"include_usage\"");
    int streams = says_true(body, length, "\"stream\"");
    c->pause = interval > HURRIED && memmem(body, length, "hurry", 5) ? HURRIED : interval;
    if (streams && interval) {
        append(&c->out, STREAM_HEAD, sizeof STREAM_HEAD - 1);
        append_role(c);
        c->due = c->started + (int64_t)(random_number() % c->pause);
        heap_add(c);
        return flush(c);
    }
    if (streams) {
        append(&c->out, STREAM_HEAD, sizeof STREAM_HEAD - 1);
        append_burst(c);
    } else {
        append_whole(c);
    }
    c->sent = token_count + 1;
    int result = flush(c);
    if (result == FLUSHED) answered(c);
    return result;
}

/* Joins the chunks of a request body; the number of bytes they took, or 0 while some are missing. */
static size_t join_chunks(const char *bytes, size_t length, buffer *body) {
    size_t at = 0;
    for (;;) {
        const char *line_end = memmem(bytes + at, length - at, "\r\n", 2);
        if (!line_end) return 0;
        size_t size = strtoul(bytes + at, NULL, 16), start = line_end - bytes + 2;
        if (start + size + 2 > length) return 0;
        append(body, bytes + start, size);
        at = start + size + 2;
        if (!size) return at;
    }
}

/* Answers the requests that have come in whole, one at a time. */
static int serve_requests(connection *c) {
    while (!c->busy && c->in.length) {
        char *head = c->in.bytes, *head_end = memmem(head, c->in.length, "\r\n\r\n", 4);
        if (!head_end) return c->in.length > HEAD_LIMIT ? BROKEN : PENDING;
        size_t head_length = head_end - head + 4, body_length = 0, used;
        int chunked = 0, expects = 0;
        for (char *line = head; line < head_end; line = (char *)memmem(line, head_end + 2 - line, "\r\n", 2) + 2) {
            if (!strncasecmp(line, "content-length:", 15)) body_length = strtoul(line + 15, NULL, 10);
            if (!strncasecmp(line, "transfer-encoding: chunked", 26)) chunked = 1;
            if (!strncasecmp(line, "expect: 100", 11)) expects = 1;
        }
        if (expects && c->in.length == head_length) {
            append(&c->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
            if (flush(c) == BROKEN) return BROKEN;
        }
        buffer joined = {0};
        const char *body = head + head_length;
        if (chunked) {
            size_t taken = join_chunks(body, c->in.length - head_length, &joined);
            if (!taken) {
                free(joined.bytes);
                return PENDING;
            }
            used = head_length + taken;
            body = joined.bytes;
            body_length = joined.length;
        } else {
            used = head_length + body_length;
            if (c->in.length < used) return PENDING;
        }
        int result = answer(c, head, body, body_length);
        free(joined.bytes);
        memmove(c->in.bytes, c->in.bytes + used, c->in.length - used);
        c->in.length -= used;
        if (result == BROKEN) return BROKEN;
    }
    return PENDING;
}

static int readable(connection *c) {
    for (;;) {
        buffer *in = &c->in;
        if (in->capacity - in->length < 4096) {
            in->capacity = in->capacity ? in->capacity * 2 : 8192;
            in->bytes = realloc(in->bytes, in->capacity);
        }
        size_t room = in->capacity - in->length;
        ssize_t n = take(c, in->bytes + in->length, room);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) return BROKEN;
        in->length += n;
        if (!c->tls && (size_t)n < room) break; /* TLS may hold more than it gave, and epoll would not say so */
    }
    return serve_requests(c);
}

static int writable(connection *c) {
    int result = flush(c);
    if (result == FLUSHED && c->busy && c->sent == token_count + 1) {
        answered(c);
        return serve_requests(c);
    }
    return result;
}

static int next_token(connection *c, int64_t t) {
    if (c->out.length) { /* its reader is slow: hold back instead of piling up */
        c->due = t + MILLISECOND;
        heap_down(c->heap_index);
        return PENDING;
    }
    append_token(c);
    if (c->sent < token_count) {
        c->due += c->pause;
        heap_down(c->heap_index);
        return flush(c);
    }
    heap_remove(c); /* the end goes out with the last token */
    c->sent = token_count + 1;
    append_end(c);
    return writable(c);
}

/* ---- the loop ------------------------------------------------------------------------------------------- */

static void accept_all(void) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->heap_index = -1;
#ifdef WITH_TLS
        if (tls_settings) {
            c->tls = SSL_new(tls_settings);
            SSL_set_fd(c->tls, fd);
            SSL_set_accept_state(c->tls); /* the handshake then happens inside the first reads */
        }
#endif
        stats.connections++;
        stats.open++;
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static void listen_on(int port) {
    int one = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &length)) {
        perror("listen");
        exit(1);
    }
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void use_tls(const char *certificate, const char *key) {
#ifdef WITH_TLS
    tls_settings = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_mode(tls_settings, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_CTX_use_certificate_chain_file(tls_settings, certificate) == 1 &&
        SSL_CTX_use_PrivateKey_file(tls_settings, key, SSL_FILETYPE_PEM) == 1)
        return;
    fprintf(stderr, "upstream: %s and %s are no certificate with its key\n", certificate, key);
#else
    (void)key;
    fprintf(stderr, "upstream: built without TLS, so it cannot serve %s\n", certificate);
#endif
    exit(1);
}

static void serve_forever(void) {
    static struct epoll_event events[EVENTS];
    static connection *dead[EVENTS];
    for (;;) {
        arm_timer();
        int deaths = 0, count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &listener) {
                accept_all();
                continue;
            }
            if (events[i].data.ptr == &timer) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) == sizeof ticks) armed_for = -1;
                continue;
            }
            connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT && writable(c) == BROKEN) {
                close_connection(c);
            } else if (events[i].events & ~EPOLLOUT && readable(c) == BROKEN) {
                close_connection(c);
            }
            if (c->fd < 0) dead[deaths++] = c;
        }
        while (deaths) bury(dead[--deaths]);
        for (int64_t t = now(); heap_length && heap[0]->due <= t;) {
            connection *c = heap[0];
            if (next_token(c, t) == BROKEN) {
                close_connection(c);
                bury(c);
            }
        }
    }
}

static void leave(int signal_number) {
    (void)signal_number;
    _exit(0);
}

int main(int argc, char **argv) {
    int option, port = 0;
    const char *certificate = NULL, *key = NULL;
    while ((option = getopt(argc, argv, "p:n:i:sc:k:")) != -1) switch (option) {
            case 'p': port = atoi(optarg); break;
            case 'n': token_count = atoi(optarg); break;
            case 'i': interval = atoll(optarg) * 1000; break;
            case 's': stamped = 1; break;
            case 'c': certificate = optarg; break;
            case 'k': key = optarg; break;
            default: return 2;
        }
    if (stamped && !interval) {
        fprintf(stderr, "upstream: stamps (-s) need a pause between tokens (-i)\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (certificate) use_tls(certificate, key);
    listen_on(port);
    poller = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = &timer;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    serve_forever();
}
