/* Whose turn it is. Priority first; within one, the tenant that was given least; within a tenant, who came first.
 *
 * What a tenant was given is counted from where the least served tenant stood when it came (start-time fair queuing,
 * P. Goyal, H. Vin, H. Cheng 1996), so that it neither saves up credit while it is idle, nor loses its debt by going
 * away. */
#include <string.h>

#include "base/memory.h"
#include "exec/scheduler_internal.h"

enum { MOST_IDLE_TENANTS = 1024 }; /* whose debts are remembered */

/* --- tenants --- */

static int is_named(const struct tenant *tenant, const char *name)
{
    return tenant->name && name ? strcmp(tenant->name, name) == 0 : !tenant->name && !name;
}

static void tenant_free(struct tenant *tenant)
{
    memory_free(tenant->name);
    memory_free(tenant);
}

/* What the least served of the tenants with jobs was given; 0 when there is none. */
static uint64_t least_service(const struct scheduler *scheduler, int *is_any)
{
    uint64_t least = UINT64_MAX;
    for (const struct tenant *tenant = scheduler->tenants; tenant; tenant = tenant->next)
        if (tenant->jobs && tenant->service < least)
            least = tenant->service;
    *is_any = least != UINT64_MAX;
    return *is_any ? least : 0;
}

/* Drops idle tenants without debts, and those beyond the number that is remembered. */
static void forget_idle(struct scheduler *scheduler)
{
    int is_any, idle = 0;
    uint64_t least = least_service(scheduler, &is_any);
    for (struct tenant **link = &scheduler->tenants; *link;) {
        struct tenant *tenant = *link;
        if (tenant->jobs || (is_any && tenant->service > least && idle++ < MOST_IDLE_TENANTS)) {
            link = &tenant->next;
            continue;
        }
        *link = tenant->next;
        tenant_free(tenant);
    }
}

static struct tenant *tenant_new(struct scheduler *scheduler, const char *name, bulla_error *error)
{
    struct tenant *tenant = memory_alloc(1, sizeof *tenant, error);
    if (tenant && name)
        tenant->name = memory_copy_text(name, strlen(name), error);
    if (!tenant || (name && !tenant->name)) {
        memory_free(tenant);
        return NULL;
    }
    tenant->next = scheduler->tenants;
    scheduler->tenants = tenant;
    return tenant;
}

struct tenant *queue_join(struct scheduler *scheduler, const char *name, bulla_error *error)
{
    int is_any;
    forget_idle(scheduler);
    uint64_t least = least_service(scheduler, &is_any);
    struct tenant *tenant = scheduler->tenants;
    while (tenant && !is_named(tenant, name))
        tenant = tenant->next;
    if (!tenant)
        tenant = tenant_new(scheduler, name, error);
    if (!tenant)
        return NULL;
    if (tenant->jobs++ == 0 && tenant->service < least)
        tenant->service = least;
    return tenant;
}

void queue_leave(struct scheduler *scheduler, struct tenant *tenant)
{
    if (--tenant->jobs == 0)
        forget_idle(scheduler);
}

/* --- waiting --- */

/* Within a tenant. */
static int goes_before(const struct job *job, const struct job *other)
{
    return job->priority != other->priority ? job->priority > other->priority : job->arrival < other->arrival;
}

void queue_put(struct job *job)
{
    struct tenant *tenant = job->tenant;
    struct job *before = tenant->last;
    while (before && goes_before(job, before))
        before = before->previous_waiting;
    job->previous_waiting = before;
    job->next_waiting = before ? before->next_waiting : tenant->first;
    *(before ? &before->next_waiting : &tenant->first) = job;
    *(job->next_waiting ? &job->next_waiting->previous_waiting : &tenant->last) = job;
    job->state = JOB_WAITING;
}

void queue_take(struct job *job)
{
    struct tenant *tenant = job->tenant;
    if (tenant->next_in_step == job)
        tenant->next_in_step = job->next_waiting;
    *(job->previous_waiting ? &job->previous_waiting->next_waiting : &tenant->first) = job->next_waiting;
    *(job->next_waiting ? &job->next_waiting->previous_waiting : &tenant->last) = job->previous_waiting;
    job->next_waiting = job->previous_waiting = NULL;
}

static int has_turn_before(const struct job *job, const struct job *other)
{
    if (job->priority != other->priority)
        return job->priority > other->priority;
    if (job->tenant->service != other->tenant->service)
        return job->tenant->service < other->tenant->service;
    return job->arrival < other->arrival;
}

void queue_rewind(struct scheduler *scheduler)
{
    for (struct tenant *tenant = scheduler->tenants; tenant; tenant = tenant->next)
        tenant->next_in_step = tenant->first;
}

void queue_pass(struct job *job)
{
    job->tenant->next_in_step = job->next_waiting;
}

struct job *queue_next(const struct scheduler *scheduler)
{
    struct job *next = NULL;
    for (const struct tenant *tenant = scheduler->tenants; tenant; tenant = tenant->next)
        if (tenant->next_in_step && (!next || has_turn_before(tenant->next_in_step, next)))
            next = tenant->next_in_step;
    return next;
}

/* --- running --- */

void running_put(struct scheduler *scheduler, struct job *job)
{
    uint32_t at = scheduler->running_count++;
    for (; at > 0; at--) {
        struct job *before = scheduler->running[at - 1];
        if (before->priority > job->priority || (before->priority == job->priority && before->turn < job->turn))
            break;
        scheduler->running[at] = before;
    }
    scheduler->running[at] = job;
    job->state = JOB_RUNNING;
}

void running_take(struct scheduler *scheduler, struct job *job)
{
    uint32_t at = 0;
    while (scheduler->running[at] != job)
        at++;
    for (scheduler->running_count--; at < scheduler->running_count; at++)
        scheduler->running[at] = scheduler->running[at + 1];
}
