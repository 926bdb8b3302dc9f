/*
 * A load generator for streamed chat: one thread on epoll, so that it costs far less than what it measures.
 *
 *   loadgen -p PORT [-c STREAMS] [-t SECONDS] [-r REQUESTS] [-P PATH] [-b BODY_FILE] [-H 'Name: value']…
 *           [-R MICROSECONDS] [-e TOKENS] [-d] [-g SECONDS] [-v]
 *
 *   -c  streams at once, each on a connection of its own that is kept
 *   -R  time between opening two of them (1,000 µs). Answers of one length come back in the rhythm they began in
 *   -t  no request starts after this time; -r: nor after this number
 *   -g  how long answers under way may then take (20 s)
 *   -e  tokens an answer must have, no more and no less
 *   -d  a stream must end in [DONE]
 *   -v  print the first answer that failed
 *
 * A token is "tok" followed by a digit or by "=", wherever it stands: in OpenAI's chunks, in the plain frames of
 * POST /chat ("data: tok=1\n\n"), in a JSON document. A stamp (see upstream.c) is CLOCK_MONOTONIC nanoseconds:
 *
 *   tok=<sent>            added latency of a token = its arrival - sent
 *   tok=<sent>+<waited>   the first of an answer: first token added = arrival - request sent - waited
 *
 * Failed: a status other than 200, a broken connection, another number of tokens, no [DONE]. Requests and tokens
 * a second are of answers completed inside the window. One line of JSON on stdout.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
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
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define MILLISECOND 1000000LL
#define EVENTS 1024
#define FAILURES_LIMIT 20000 /* a dead proxy is not asked for ever */

enum state { IDLE, CONNECTING, IN_HEAD, IN_BODY };
enum framing { BY_LENGTH, BY_CHUNKS, BY_CLOSE };
enum chunk_state { SIZE_LINE, EXTENSION, DATA, DATA_END, TRAILER_START, TRAILER };
enum token_state { NO_TOKEN, SEEN_T, SEEN_TO, SEEN_TOK, IN_STAMP, IN_WAITED };

typedef struct {
    int fd, keep_alive, waiting_to_write;
    enum state state;
    size_t sent; /* of the request */

    char head[16384];
    int head_length, status;
    enum framing framing;
    enum chunk_state chunk_state;
    int64_t left;       /* bytes of a body by length */
    int64_t chunk_left; /* bytes of the current chunk */

    enum token_state token_state;
    int64_t stamp, waited;
    int tokens;
    int64_t started;
    char tail[16]; /* last bytes of the body: does it end in [DONE]? */
    int tail_length;
} connection;

/* Times in units of 0.1 µs, so that 32 bits hold seven minutes. */
typedef struct {
    uint32_t *values;
    size_t length, capacity;
} series;

static int streams = 1, expected = -1, must_be_done, verbose, poller;
static int64_t most_requests = INT64_MAX, window_end, last_finish, apart = MILLISECOND;
static char *request;
static size_t request_length;
static struct sockaddr_in proxy;

static int64_t started, succeeded, failed, tokens_received;
static int64_t succeeded_in_window, tokens_in_window;
static int64_t bad_status, bad_tokens, bad_end, bad_connection;
static series total_time, first_token, first_token_added, token_added;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/* ---- series --------------------------------------------------------------------------------------------- */

static void note(series *s, int64_t nanoseconds) {
    int64_t value = nanoseconds / 100;
    if (s->length == s->capacity) {
        s->capacity = s->capacity ? s->capacity * 2 : 65536;
        s->values = realloc(s->values, s->capacity * sizeof *s->values);
    }
    s->values[s->length++] = value < 0 ? 0 : value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_series(const char *name, series *s) {
    if (!s->length) return;
    qsort(s->values, s->length, sizeof *s->values, by_value);
    static const struct {
        const char *name;
        double at;
    } quantiles[] = {{"p50", .5}, {"p90", .9}, {"p99", .99}, {"p999", .999}, {"max", 1}};
    printf(",\"%s\":{\"count\":%zu", name, s->length);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        size_t rank = quantiles[i].at * (s->length - 1) + 0.5;
        printf(",\"%s\":%.1f", quantiles[i].name, s->values[rank] / 10.0);
    }
    printf("}");
}

/* ---- reading an answer ---------------------------------------------------------------------------------- */

static void token_ended(connection *c, int64_t t) {
    tokens_received++;
    c->tokens++;
    if (c->tokens == 1) note(&first_token, t - c->started);
    if (c->stamp) note(&token_added, t - c->stamp);
    if (c->waited >= 0) note(&first_token_added, t - c->started - c->waited);
}

/* Counts tokens; they may be cut anywhere, so the state lives in the connection. */
static void scan(connection *c, const char *bytes, size_t length, int64_t t) {
    for (size_t i = 0; i < length; i++) {
        char ch = bytes[i];
        int digit = ch >= '0' && ch <= '9';
        switch (c->token_state) {
            case NO_TOKEN: {
                const char *next = memchr(bytes + i, 't', length - i);
                if (!next) return;
                i = next - bytes;
                c->token_state = SEEN_T;
                break;
            }
            case SEEN_T: c->token_state = ch == 'o' ? SEEN_TO : ch == 't' ? SEEN_T : NO_TOKEN; break;
            case SEEN_TO: c->token_state = ch == 'k' ? SEEN_TOK : ch == 't' ? SEEN_T : NO_TOKEN; break;
            case SEEN_TOK:
                c->stamp = 0;
                c->waited = -1;
                if (ch == '=') {
                    c->token_state = IN_STAMP;
                    break;
                }
                if (digit) token_ended(c, t);
                c->token_state = ch == 't' ? SEEN_T : NO_TOKEN;
                break;
            case IN_STAMP:
                if (digit) {
                    c->stamp = c->stamp * 10 + ch - '0';
                    break;
                }
                if (ch == '+') {
                    c->waited = 0;
                    c->token_state = IN_WAITED;
                    break;
                }
                token_ended(c, t);
                c->token_state = ch == 't' ? SEEN_T : NO_TOKEN;
                break;
            case IN_WAITED:
                if (digit) {
                    c->waited = c->waited * 10 + ch - '0';
                    break;
                }
                token_ended(c, t);
                c->token_state = ch == 't' ? SEEN_T : NO_TOKEN;
                break;
        }
    }
}

static void keep_tail(connection *c, const char *bytes, size_t length) {
    int room = sizeof c->tail;
    if (length >= sizeof c->tail) {
        memcpy(c->tail, bytes + length - room, room);
        c->tail_length = room;
        return;
    }
    int kept = c->tail_length < room - (int)length ? c->tail_length : room - (int)length;
    memmove(c->tail, c->tail + c->tail_length - kept, kept);
    memcpy(c->tail + kept, bytes, length);
    c->tail_length = kept + length;
}

static void read_content(connection *c, const char *bytes, size_t length, int64_t t) {
    if (!length) return;
    scan(c, bytes, length, t);
    keep_tail(c, bytes, length);
}

enum { BROKEN = -1, GO_ON = 0, COMPLETE = 1 };

static int hex_digit(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    ch |= 32;
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static int read_chunks(connection *c, const char *at, const char *end, int64_t t) {
    while (at < end) switch (c->chunk_state) {
            case SIZE_LINE:
                if (*at == '\n') {
                    c->chunk_state = c->chunk_left ? DATA : TRAILER_START;
                } else if (*at == ';') {
                    c->chunk_state = EXTENSION;
                } else if (*at != '\r') {
                    int digit = hex_digit(*at);
                    if (digit < 0) return BROKEN;
                    c->chunk_left = c->chunk_left * 16 + digit;
                }
                at++;
                break;
            case EXTENSION:
                if (*at++ == '\n') c->chunk_state = c->chunk_left ? DATA : TRAILER_START;
                break;
            case DATA: {
                int64_t here = end - at < c->chunk_left ? end - at : c->chunk_left;
                read_content(c, at, here, t);
                at += here;
                if (!(c->chunk_left -= here)) c->chunk_state = DATA_END;
                break;
            }
            case DATA_END:
                if (*at++ == '\n') c->chunk_state = SIZE_LINE;
                break;
            case TRAILER_START: /* an empty line ends the answer */
                if (*at == '\n') return COMPLETE;
                if (*at++ != '\r') c->chunk_state = TRAILER;
                break;
            case TRAILER:
                if (*at++ == '\n') c->chunk_state = TRAILER_START;
                break;
        }
    return GO_ON;
}

static int read_body(connection *c, const char *bytes, size_t length, int64_t t) {
    if (c->framing == BY_CHUNKS) return read_chunks(c, bytes, bytes + length, t);
    if (c->framing == BY_LENGTH && (int64_t)length > c->left) length = c->left;
    read_content(c, bytes, length, t);
    return c->framing == BY_LENGTH && !(c->left -= length) ? COMPLETE : GO_ON;
}

/* Takes what belongs to the head out of these bytes; `used` says how much that was. */
static int read_head(connection *c, const char *bytes, size_t length, size_t *used) {
    size_t room = sizeof c->head - 1 - c->head_length, taken = length < room ? length : room;
    int before = c->head_length;
    memcpy(c->head + c->head_length, bytes, taken);
    c->head_length += taken;
    c->head[c->head_length] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return c->head_length >= (int)sizeof c->head - 1 ? BROKEN : GO_ON;
    c->head_length = end + 4 - c->head;
    c->head[c->head_length] = 0;
    *used = c->head_length - before;

    c->status = atoi(c->head + 9); /* after "HTTP/1.1 " */
    c->framing = BY_CLOSE;
    for (char *line = c->head; (line = strstr(line, "\r\n")) && line < end;) {
        line += 2;
        if (!strncasecmp(line, "transfer-encoding: chunked", 26)) c->framing = BY_CHUNKS;
        if (!strncasecmp(line, "connection: close", 17)) c->keep_alive = 0;
        if (!strncasecmp(line, "content-length:", 15)) {
            c->framing = BY_LENGTH;
            c->left = atoll(line + 15);
        }
    }
    c->state = IN_BODY;
    return c->framing == BY_LENGTH && !c->left ? COMPLETE : GO_ON;
}

/* ---- connections ---------------------------------------------------------------------------------------- */

static int may_start(void) { return started < most_requests && now() < window_end; }

static void drop(connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->state = IDLE;
}

static void wait_to_write(connection *c, int wait) {
    struct epoll_event event = {.events = EPOLLIN | (wait ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    c->waiting_to_write = wait;
}

static void send_request(connection *c) {
    while (c->sent < request_length) {
        ssize_t n = send(c->fd, request + c->sent, request_length - c->sent, MSG_NOSIGNAL);
        if (n < 0) { /* a broken connection shows when it is read */
            if (errno == EAGAIN && !c->waiting_to_write) wait_to_write(c, 1);
            return;
        }
        c->sent += n;
    }
    if (c->waiting_to_write) wait_to_write(c, 0);
}

static void start_request(connection *c) {
    started++;
    c->state = IN_HEAD;
    c->keep_alive = 1;
    c->sent = 0;
    c->head_length = c->status = c->tokens = c->tail_length = 0;
    c->chunk_state = SIZE_LINE;
    c->chunk_left = 0;
    c->token_state = NO_TOKEN;
    c->started = now();
    send_request(c);
}

static void dial(connection *c) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) return;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (struct sockaddr *)&proxy, sizeof proxy) && errno != EINPROGRESS) {
        failed++;
        bad_connection++;
        drop(c);
        return;
    }
    c->state = CONNECTING;
    c->waiting_to_write = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

static void connected(connection *c) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        failed++;
        bad_connection++;
        drop(c);
        return;
    }
    wait_to_write(c, 0);
    if (may_start())
        start_request(c);
    else
        drop(c);
}

static int judged_good(const connection *c, int whole) {
    int64_t *reason = NULL;
    if (!whole)
        reason = &bad_connection;
    else if (c->status != 200)
        reason = &bad_status;
    else if (expected >= 0 && c->tokens != expected)
        reason = &bad_tokens;
    else if (must_be_done && !memmem(c->tail, c->tail_length, "[DONE]", 6))
        reason = &bad_end;
    if (reason) ++*reason;
    return !reason;
}

static void finish(connection *c, int whole) {
    int64_t t = now();
    last_finish = t;
    if (judged_good(c, whole)) {
        succeeded++;
        note(&total_time, t - c->started);
        if (t <= window_end) {
            succeeded_in_window++;
            tokens_in_window += c->tokens;
        }
        c->state = IDLE;
        if (!c->keep_alive || c->framing == BY_CLOSE) drop(c);
        return;
    }
    failed++;
    if (verbose) {
        verbose = 0;
        fprintf(stderr, "first bad answer: %s, %d tokens, ends in \"%.*s\"; head:\n%.*s\n",
                whole ? "whole" : "cut", c->tokens, c->tail_length, c->tail, c->head_length, c->head);
    }
    drop(c);
}

static void readable(connection *c) {
    static char bytes[262144];
    for (;;) {
        ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (c->state == IDLE) { /* the proxy closed a connection between two answers, as it may */
            drop(c);
            return;
        }
        if (n <= 0) {
            finish(c, n == 0 && c->state == IN_BODY && c->framing == BY_CLOSE);
            return;
        }
        int64_t t = now();
        size_t used = 0;
        int result = GO_ON;
        if (c->state == IN_HEAD) {
            result = read_head(c, bytes, n, &used);
            if (result == GO_ON && c->state == IN_HEAD) continue;
        }
        if (result == GO_ON && used < (size_t)n) result = read_body(c, bytes + used, n - used, t);
        if (result != GO_ON) {
            finish(c, result == COMPLETE);
            return;
        }
        if ((size_t)n < sizeof bytes) return;
    }
}

/* ---- the run -------------------------------------------------------------------------------------------- */

static int under_way(const connection *all, int opened) {
    int count = 0;
    for (int i = 0; i < opened; i++) count += all[i].state == IN_HEAD || all[i].state == IN_BODY;
    return count;
}

/* One more connection each `apart`, and those that were closed again, a few each turn. */
static int open_connections(connection *all, int opened, int64_t since_start) {
    static int position;
    int64_t due = since_start / apart + 1;
    int wanted = due < streams ? (int)due : streams;
    for (int looked = 0, dialled = 0; looked < opened && looked < 256 && dialled < 4; looked++) {
        connection *c = &all[position++ % opened];
        if (c->fd < 0) {
            dial(c);
            dialled++;
        }
        if (position >= streams) position = 0;
    }
    while (opened < wanted) dial(&all[opened++]);
    return opened;
}

static int run(connection *all, int64_t grace) {
    static struct epoll_event events[EVENTS];
    int opened = 0;
    int64_t start = now();
    while (now() < window_end + grace && failed < FAILURES_LIMIT) {
        if (may_start())
            opened = open_connections(all, opened, now() - start);
        else if (!under_way(all, opened))
            break;
        int count = epoll_wait(poller, events, EVENTS, opened < streams ? 1 : 20);
        for (int i = 0; i < count; i++) {
            connection *c = events[i].data.ptr;
            if (c->fd < 0) continue;
            if (c->state == CONNECTING) {
                connected(c);
                continue;
            }
            if (events[i].events & EPOLLOUT && c->waiting_to_write) send_request(c);
            if (events[i].events & ~EPOLLOUT) readable(c);
            if (c->fd >= 0 && c->state == IDLE) {
                if (may_start())
                    start_request(c);
                else
                    drop(c);
            }
        }
    }
    return under_way(all, opened);
}

static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        exit(2);
    }
    char *bytes = malloc(1 << 22);
    *length = fread(bytes, 1, 1 << 22, file);
    fclose(file);
    return bytes;
}

int main(int argc, char **argv) {
    int option, port = 0;
    double seconds = 10, grace = 20;
    const char *path = "/v1/chat/completions";
    char *body = "{}", *headers = strdup("");
    size_t body_length = 2;
    while ((option = getopt(argc, argv, "p:c:t:r:R:P:b:H:e:dg:v")) != -1) switch (option) {
            case 'p': port = atoi(optarg); break;
            case 'c': streams = atoi(optarg); break;
            case 't': seconds = atof(optarg); break;
            case 'r': most_requests = atoll(optarg); break;
            case 'R': apart = atoll(optarg) * 1000; break;
            case 'P': path = optarg; break;
            case 'b': body = read_file(optarg, &body_length); break;
            case 'H':
                if (asprintf(&headers, "%s%s\r\n", headers, optarg) < 0) return 2;
                break;
            case 'e': expected = atoi(optarg); break;
            case 'd': must_be_done = 1; break;
            case 'g': grace = atof(optarg); break;
            case 'v': verbose = 1; break;
            default: return 2;
        }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    char *head;
    int head_length = asprintf(&head,
                               "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                               "Accept: */*\r\n%sContent-Length: %zu\r\n\r\n",
                               path, port, headers, body_length);
    if (head_length < 0) return 2;
    request_length = head_length + body_length;
    request = malloc(request_length);
    memcpy(request, head, head_length);
    memcpy(request + head_length, body, body_length);

    proxy = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    proxy.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    poller = epoll_create1(0);
    connection *all = calloc(streams, sizeof *all);
    for (int i = 0; i < streams; i++) all[i].fd = -1;

    int64_t start = now();
    window_end = start + (int64_t)(seconds * SECOND);
    int unfinished = run(all, (int64_t)(grace * SECOND));
    double elapsed = (now() - start) / 1e9;
    double window = last_finish && last_finish < window_end ? (last_finish - start) / 1e9 : seconds;

    printf("{\"succeeded\":%lld,\"failed\":%lld,\"unfinished\":%d,\"bad_status\":%lld,\"bad_tokens\":%lld,"
           "\"bad_end\":%lld,\"bad_connection\":%lld,\"elapsed_s\":%.3f,\"requests_per_s\":%.2f,"
           "\"tokens_per_s\":%.1f,\"tokens\":%lld",
           (long long)succeeded, (long long)failed, unfinished, (long long)bad_status, (long long)bad_tokens,
           (long long)bad_end, (long long)bad_connection, elapsed, succeeded_in_window / window,
           tokens_in_window / window, (long long)tokens_received);
    print_series("total_us", &total_time);
    print_series("first_token_us", &first_token);
    print_series("first_token_added_us", &first_token_added);
    print_series("token_added_us", &token_added);
    printf("}\n");
    return 0;
}
