import sys,textwrap,re
p=sys.argv[1]; L=open(p).read().split('\n'); out=[]; i=0; md=False
def flush(block):
    if not block: return
    if all(len(b)<=88 for b in block) and '--all' not in sys.argv: out.extend(block); return
    t=[b[2:] for b in block]
    # split into items
    items=[];
    for line in t:
        if re.match(r'(\* |\d+\. )',line) or not items: items.append([line])
        else: items[-1].append(line)
    for it in items:
        s=' '.join(x.strip() for x in it)
        s0='  ' if s.startswith('* ') else ''
        for w in textwrap.wrap(s,86,subsequent_indent=s0,break_long_words=False,break_on_hyphens=False): out.append('# '+w)
block=[]; fence=False
for line in L:
    if line.startswith('# %%'):
        flush(block); block=[]; md='[markdown]' in line; out.append(line); continue
    if not md: out.append(line); continue
    body=line[2:] if line.startswith('# ') else ''
    if body.startswith('```') : fence=not fence
    special = fence or body.startswith(('#','![','[![','$$','|','```')) or line=='#' or line=='' or '$$' in body or '\\' in body
    if special: flush(block); block=[]; out.append(line)
    else: block.append(line)
flush(block)
open(p,'w').write('\n'.join(out))
