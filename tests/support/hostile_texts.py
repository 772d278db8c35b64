"""Texts that try to run a script, to break the page or to break its writer."""

TEXTS = (
    "</script><script>document.title='owned'</script>",
    "</style><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=\'owned\'">',
    "'><a href=\"javascript:document.title='owned'\">x</a>",
    "<!-- <script> -->",
    "<iframe srcdoc=\"<script>parent.document.title='owned'</script>\"></iframe>",
    "<meta http-equiv=refresh content='0;url=https://example.com/'>",
    "{{ 7 * 7 }}{% raw %}",
    "line\u2028separator\u2029\u202eover\x00\x1b[31m",
    "\ud800 lone \udfff",
    "&lt;b&gt; &amp;amp;",
)
