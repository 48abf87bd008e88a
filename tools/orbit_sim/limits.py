"""Both kinds of 429: the rate limit (with Retry-After) and the quota (a growing delay first, then none)."""

import time

from . import wire

EXEMPT = ("/health", "/metrics", "/static", "/favicon.ico")
DELAY_FROM = 0.7          # of the quota
DELAY_MS = (100, 5000)


class Limits:
    def __init__(self, settings):
        self.settings = settings
        self.forget()

    def forget(self):
        self.window = 0
        self.hits = {}
        self.used = {}  # key -> [day, chats, month, chats]

    def admit(self, worker, exchange):
        """False: answered with 429, or held back for a while."""
        settings = self.settings
        if settings.rate_limit and not exchange.path.startswith(EXEMPT) and not self.within_rate(exchange):
            return False
        if (settings.quota_daily or settings.quota_monthly) and exchange.path in ("/v1/chat", "/v1/chat/completions"):
            return self.within_quota(worker, exchange)
        return True

    def within_rate(self, exchange):
        now = int(time.time())
        window = now // 60
        if window != self.window:
            self.window = window
            self.hits = {}
        address = exchange.connection.peer[0]
        hits = self.hits[address] = self.hits.get(address, 0) + 1
        limit = self.settings.rate_limit
        left = max(limit - hits, 0)
        until = (window + 1) * 60
        exchange.late = b"x-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\n" % (limit, left, until)
        if hits <= limit:
            return True
        wait = max(until - now, 1)
        body = wire.compact({"detail": f"Rate limit exceeded. Please retry after {wait} seconds.", "retry_after": wait})
        late, exchange.late = exchange.late, b""
        exchange.respond(429, b"content-length: %d\r\ncontent-type: application/json\r\nretry-after: %d\r\n%b"
                         % (len(body), wait, late), body, bare=True)
        return False

    def within_quota(self, worker, exchange):
        settings = self.settings
        now = time.time()
        today = time.gmtime(now)
        day, month = today.tm_yday, today.tm_mon
        used = self.used.setdefault(exchange.field("x-api-key"), [day, 0, month, 0])
        if used[0] != day:
            used[0:2] = day, 0
        if used[2] != month:
            used[2:4] = month, 0
        over = None
        if settings.quota_daily and used[1] >= settings.quota_daily:
            over = "daily"
        elif settings.quota_monthly and used[3] >= settings.quota_monthly:
            over = "monthly"
        else:
            used[1] += 1
            used[3] += 1
        daily_left = max(settings.quota_daily - used[1], 0)
        monthly_left = max(settings.quota_monthly - used[3], 0)
        day_end = int(now // 86400 + 1) * 86400 - 2
        month_end = day_end + (30 - min(today.tm_mday, 30)) * 86400
        share = max(used[1] / settings.quota_daily if settings.quota_daily else 0,
                    used[3] / settings.quota_monthly if settings.quota_monthly else 0)
        delay = 0
        if over is None and share >= DELAY_FROM:
            delay = int(DELAY_MS[0] + (DELAY_MS[1] - DELAY_MS[0]) * min((share - DELAY_FROM) / (1 - DELAY_FROM), 1))
        exchange.late = (b"x-throttle-delay: %d\r\nx-quota-daily-remaining: %d\r\nx-quota-daily-reset: %d\r\n"
                         b"x-quota-monthly-remaining: %d\r\nx-quota-monthly-reset: %d\r\n"
                         % (delay, daily_left, day_end, monthly_left, month_end))
        if over:
            late, exchange.late = exchange.late, b""
            body = wire.compact({"detail": f"Quota exceeded ({over}). Please wait for quota reset.", "quota_exceeded": over,
                                 "daily_remaining": daily_left, "monthly_remaining": monthly_left,
                                 "daily_reset_at": day_end, "monthly_reset_at": month_end})
            exchange.respond(429, b"content-length: %d\r\ncontent-type: application/json\r\n%b" % (len(body), late), body,
                             bare=True)
            return False
        if delay:
            from .routes import enter
            from .worker import Later
            worker.driver.later(delay * 1e-3, Later(lambda: enter(worker, exchange)))
            return False
        return True
