/* pace.c - see pace.h. */
#include "tui/pace.h"

#include <string.h>

/* Rates beyond are not believed: an answer can be late for many reasons, and a clock is coarse. */
static const double SLOWEST = 4e3, FASTEST = 1e9, ASSUMED = 64e3, QUICK = 1e6, WEIGHT = 0.3;
enum { ALONE_BYTES = 64, MEASURED_BYTES = 300, LEAST_US = 100 };

int64_t pace_trip_us(const struct pace *p)
{
    int64_t least = 0;
    int n = p->trips < PACE_TRIPS ? p->trips : PACE_TRIPS;

    for (int i = 0; i < n; i++)
        if (!i || p->trip_us[i] < least) least = p->trip_us[i];
    return least;
}

void pace_sent(struct pace *p, size_t bytes, int64_t now_us)
{
    if (p->flights == PACE_FLIGHTS) return;
    p->flight[p->flights].sent_us = now_us;
    p->flight[p->flights++].bytes = bytes;
}

bool pace_answered(struct pace *p, int64_t now_us)
{
    int64_t sent, trip = pace_trip_us(p), began, took;
    size_t bytes;

    if (!p->flights) return false;
    sent = p->flight[0].sent_us;
    bytes = p->flight[0].bytes;
    p->flights--;
    memmove(p->flight, p->flight + 1, (size_t)p->flights * sizeof *p->flight);
    if (bytes <= ALONE_BYTES && sent >= p->answered_us) p->trip_us[p->trips++ % PACE_TRIPS] = now_us - sent;
    if (bytes >= MEASURED_BYTES) {
        /* Its bytes began to move when they were written, or when those before had gone. */
        began = p->answered_us > sent + trip ? p->answered_us : sent + trip;
        took = now_us - began > LEAST_US ? now_us - began : LEAST_US;
        double per_byte = (double)took / 1e6 / (double)bytes;
        if (per_byte > 1 / SLOWEST) per_byte = 1 / SLOWEST;
        if (per_byte < 1 / FASTEST) per_byte = 1 / FASTEST;
        p->seconds_per_byte += (p->seconds_per_byte > 0 ? WEIGHT : 1) * (per_byte - p->seconds_per_byte);
    }
    p->answered_us = now_us;
    return true;
}

double pace_rate(const struct pace *p)
{
    return p->seconds_per_byte > 0 ? 1 / p->seconds_per_byte : 0;
}

size_t pace_bytes(const struct pace *p, double ms)
{
    return (size_t)((pace_rate(p) > 0 ? pace_rate(p) : ASSUMED) * ms / 1000);
}

bool pace_open(const struct pace *p, size_t bytes)
{
    size_t out = bytes;

    if (!p->flights) return true;
    if (p->flights == PACE_FLIGHTS || !(pace_rate(p) > 0)) return false;
    for (int i = 0; i < p->flights; i++) out += p->flight[i].bytes;
    return out <= pace_bytes(p, (double)pace_trip_us(p) / 1000 + PACE_QUEUE_MS);
}

void pace_forget(struct pace *p)
{
    p->flights = 0;
}

bool pace_quick(const struct pace *p)
{
    return pace_rate(p) >= QUICK;
}
